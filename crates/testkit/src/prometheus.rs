//! Prometheus' own programs, of Debian's package `prometheus`: what they make of pages, rules and configurations.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::process::on_path;

/// More than `promtool` takes for anything of ours.
const CHECKED: Duration = Duration::from_secs(30);

/// Runs `promtool` with these arguments and that text on its stdin; gives what it prints on both streams. An error, which shows
/// that too, when it finds fault.
pub async fn promtool(arguments: &[&str], stdin: &str) -> Result<String> {
    let mut running = tokio::process::Command::new(program("promtool")?)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start promtool")?;
    let mut input = running.stdin.take().context("its stdin is piped")?;
    let written = async {
        input.write_all(stdin.as_bytes()).await?;
        drop(input);
        Ok(())
    };
    let checked = async { tokio::try_join!(written, running.wait_with_output()) };
    let checked = timeout(CHECKED, checked).await;
    let ((), output) = checked.context("promtool does not end")??;
    let printed = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let code = output.status;
    ensure!(code.success(), "promtool {arguments:?}: {code}: {printed}");
    Ok(printed)
}

fn program(name: &str) -> Result<PathBuf> {
    on_path(name).with_context(|| {
        format!("there is no {name} on the PATH; Debian's package prometheus has it")
    })
}
