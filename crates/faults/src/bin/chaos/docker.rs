//! Docker's own command line, a call at a time, and what a container is by it.

use std::{net::Ipv4Addr, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::plan::Deed;

/// How long a command may take: a container that is stopped drains first.
const ANSWER: Duration = Duration::from_mins(1);

/// Runs `docker` and gives what it prints. Dropped, it is killed; Ctrl-C on a terminal does not reach it.
///
/// # Errors
/// When it fails, with what it says, or takes longer than a minute.
pub(crate) async fn docker(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null());
    command.process_group(0).kill_on_drop(true);
    let said = arguments.join(" ");
    let output = timeout(ANSWER, command.output())
        .await
        .with_context(|| format!("docker {said} has not ended within {ANSWER:?}"))?
        .context("docker cannot be started")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "docker {said}: {}",
        complaint.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A container, as it was found when all was well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) service: String,
    /// What runs in it.
    binary: String,
    network: String,
    /// By which names others of its network know it.
    aliases: Vec<String>,
}

impl Container {
    /// The one of that id.
    pub(crate) async fn find(id: &str) -> Result<Self> {
        let found = inspect(id).await?;
        let networks = found["NetworkSettings"]["Networks"].as_object();
        let (network, attached) = networks
            .and_then(|networks| networks.iter().next())
            .with_context(|| format!("the container {id} is in no network"))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let aliases = attached["Aliases"].as_array().into_iter().flatten();
        let labels = &found["Config"]["Labels"];
        Ok(Self {
            id: id.to_owned(),
            name: text(&found["Name"]).trim_start_matches('/').to_owned(),
            service: text(&labels["com.docker.compose.service"]),
            binary: text(&found["Config"]["Entrypoint"][0]),
            network: network.clone(),
            // Docker adds the id itself.
            aliases: aliases
                .map(text)
                .filter(|alias| !id.starts_with(alias.as_str()))
                .collect(),
        })
    }

    /// Its address in the network; `None` while it has none.
    pub(crate) async fn ip(&self) -> Result<Option<Ipv4Addr>> {
        let found = inspect(&self.id).await?;
        let attached = &found["NetworkSettings"]["Networks"][&self.network];
        Ok(attached["IPAddress"]
            .as_str()
            .and_then(|ip| ip.parse().ok()))
    }

    /// Has this done to it.
    pub(crate) async fn suffer(&self, deed: Deed) -> Result<()> {
        match deed {
            Deed::Killed => docker(&["kill", &self.id]).await,
            Deed::Stopped => docker(&["stop", &self.id]).await,
            Deed::Paused => docker(&["pause", &self.id]).await,
            Deed::CutOff => docker(&["network", "disconnect", &self.network, &self.id]).await,
        }
        .map(drop)
    }

    /// Has it run in its network again, whatever was done to it.
    pub(crate) async fn mend(&self) -> Result<()> {
        let found = inspect(&self.id).await?;
        let state = &found["State"];
        if state["Paused"] == true {
            docker(&["unpause", &self.id]).await?;
        }
        if found["NetworkSettings"]["Networks"]
            .get(&self.network)
            .is_none()
        {
            let mut connect = vec!["network", "connect"];
            for alias in &self.aliases {
                connect.extend(["--alias", alias]);
            }
            connect.extend([self.network.as_str(), &self.id]);
            docker(&connect).await?;
        }
        if state["Running"] != true {
            docker(&["start", &self.id]).await?;
        }
        Ok(())
    }

    /// Starts its process anew.
    pub(crate) async fn restart(&self) -> Result<()> {
        docker(&["restart", &self.id]).await.map(drop)
    }

    /// Runs its own binary in it, with other arguments.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<()> {
        let itself = ["exec", &self.id, &self.binary];
        docker(&[&itself[..], arguments].concat()).await.map(drop)
    }

    /// An error unless it is ready for calls, by its own account.
    pub(crate) async fn is_ready(&self) -> Result<()> {
        self.run(&["--health-check"]).await
    }

    /// An error unless it is a member of etcd that answers a linearizable read.
    pub(crate) async fn has_quorum(&self) -> Result<()> {
        docker(&["exec", &self.id, "etcdctl", "endpoint", "health"])
            .await
            .map(drop)
    }
}

async fn inspect(id: &str) -> Result<Value> {
    let text = docker(&["inspect", id]).await?;
    let mut found: Value = serde_json::from_str(&text).context("docker inspect gives no JSON")?;
    Ok(found[0].take())
}
