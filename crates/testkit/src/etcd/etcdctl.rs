//! What an operator does with a cluster: by `etcdctl`.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{Cluster, member::Member, program};

/// How long one `etcdctl` command may take.
const COMMAND: Duration = Duration::from_secs(30);
/// Who may do everything once authentication is enabled, and the password.
const ROOT: &str = "root:root";

impl Cluster {
    /// Makes the cluster ask everybody who they are, this testkit included.
    pub async fn enable_authentication(&mut self) -> Result<()> {
        self.etcdctl_text(&["user", "add", ROOT]).await?;
        self.etcdctl_text(&["user", "grant-role", "root", "root"])
            .await?;
        self.etcdctl_text(&["auth", "enable"]).await?;
        self.user = Some(ROOT.into());
        Ok(())
    }

    /// Adds a user that may read and write what begins with `prefix`, and nothing else.
    pub async fn add_user(&self, name: &str, password: &str, prefix: &str) -> Result<()> {
        self.etcdctl_text(&["user", "add", &format!("{name}:{password}")])
            .await?;
        self.etcdctl_text(&["role", "add", name]).await?;
        let permission = ["role", "grant-permission", "--prefix=true", name];
        let permission = [&permission[..], &["readwrite", prefix]].concat();
        self.etcdctl_text(&permission).await?;
        self.etcdctl_text(&["user", "grant-role", name, name])
            .await?;
        Ok(())
    }

    /// Changes a user's password: etcd forgets the tokens that it has given for the old one.
    pub async fn change_password(&self, name: &str, password: &str) -> Result<()> {
        let command = ["user", "passwd", "--interactive=false", name];
        self.etcdctl_given(&command, password).await.map(drop)
    }

    /// Runs `etcdctl` against all members and returns what it prints, parsed: `--write-out=json` is given to it.
    pub async fn etcdctl(&self, arguments: &[&str]) -> Result<Value> {
        let arguments: Vec<_> = ["--write-out=json"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let printed = self.etcdctl_text(&arguments).await?;
        if printed.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&printed).with_context(|| format!("etcdctl printed {printed:?}"))
    }

    /// Runs `etcdctl` against all members and returns what it prints, as it is.
    pub async fn etcdctl_text(&self, arguments: &[&str]) -> Result<String> {
        self.etcdctl_given(arguments, "").await
    }

    /// Runs `etcdctl`, which reads `input`.
    async fn etcdctl_given(&self, arguments: &[&str], input: &str) -> Result<String> {
        let command = format!("etcdctl {}", arguments.join(" "));
        let endpoints: Vec<_> = self.members.iter().map(Member::own_endpoint).collect();
        let user = self.user.iter().map(|user| format!("--user={user}"));
        let mut run = Command::new(program("etcdctl", "etcd-client")?)
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", endpoints.join(",")))
            .arg("--command-timeout=25s")
            .args(user)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = run.stdin.take().context("its stdin is piped")?;
        // It may have ended without reading any of it.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(COMMAND, run.wait_with_output())
            .await
            .with_context(|| format!("{command} has not ended in {COMMAND:?}"))??;
        ensure!(
            output.status.success(),
            "{command} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8(output.stdout).with_context(|| format!("{command} printed no text"))
    }
}
