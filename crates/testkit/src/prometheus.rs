//! Prometheus' own programs, of Debian's package `prometheus`: what they make of pages, rules and configurations.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{Port, http, process::Process, until};

/// How long a Prometheus may take to read its configuration and listen.
const STARTED: Duration = Duration::from_secs(30);

/// More than `promtool` takes for anything of ours: three seconds on a machine that is not busy.
const CHECKED: Duration = Duration::from_mins(1);

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

/// A running Prometheus, whose data is its own. Dropped, it is killed.
#[derive(Debug)]
pub struct Prometheus {
    port: Port,
    process: Process,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts one with that configuration, in YAML; it answers when this returns.
    pub async fn start(configuration: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, configuration)?;
        let port = Port::free()?;
        let mut command = Command::new(program("prometheus")?);
        command.arg(option("config.file", &file));
        command.arg(option("storage.tsdb.path", &directory.path().join("data")));
        command.arg(format!("--web.listen-address={}", port.address()));
        let process = Process::spawn("prometheus", command)?;
        let prometheus = Self {
            port,
            process,
            _directory: directory,
        };
        until(STARTED, "Prometheus to answer", async || {
            if let Some(status) = prometheus.process.try_wait() {
                bail!(
                    prometheus
                        .process
                        .complaint(&format!("ended with {status}"))
                );
            }
            http::text(prometheus.port.number(), "/-/ready").await
        })
        .await?;
        Ok(prometheus)
    }

    /// The series that an expression gives now, as Prometheus' API has them. An error when it is no expression.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let query = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let answer = self.api(&format!("query?query={query}")).await;
        let data = answer.with_context(|| format!("the expression {expression}"))?;
        let result = data["result"].as_array().cloned();
        result.with_context(|| format!("{expression} gives no series, but {data}"))
    }

    /// The alert rules that it has loaded, as Prometheus' API has them.
    pub async fn alert_rules(&self) -> Result<Vec<Value>> {
        let data = self.api("rules?type=alert").await?;
        let groups = data["groups"].as_array().context("no groups of rules")?;
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        Ok(rules.flatten().cloned().collect())
    }

    async fn api(&self, path: &str) -> Result<Value> {
        let mut answer = http::get(self.port.number(), &format!("/api/v1/{path}")).await?;
        Ok(answer["data"].take())
    }
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn program(name: &str) -> Result<PathBuf> {
    let path = crate::process::on_path(name);
    path.with_context(|| {
        format!("there is no {name} on the PATH; Debian's package prometheus has it")
    })
}
