//! Who makes calls meanwhile: a `greeter-client` in a container of its own, as one is set up whose calls may not fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::{fleet::Figures, http, until};

use crate::docker::docker;

const CALLERS: &str = "16";
/// Where the admin page is published.
const ADMIN: &str = "127.0.0.1:0:9090";
/// A greeting may be asked for twice, so that a call that waits for one instance is sent to another as well: one that hangs or
/// is cut off fails no call. Who waits has calls in flight, and `least_request` prefers others.
const CONFIG: &str = r#"{
  "loadBalancingConfig": [{"least_request": {}}],
  "methodConfig": [{
    "name": [{}],
    "hedgingPolicy": {"maxAttempts": 4, "hedgingDelay": "0.25s", "nonFatalStatusCodes": ["UNAVAILABLE"]}
  }]
}"#;
/// How long the first call, and the end, may take.
const BOUND: Duration = Duration::from_secs(40);

/// Who calls which service.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The container's.
    pub(crate) name: String,
    pub(crate) service: &'static str,
    /// Calls a second.
    pub(crate) rate: u32,
    /// What makes its calls those that the service takes.
    pub(crate) arguments: Vec<String>,
}

/// Its calls, while they are made.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) caller: Caller,
    /// Of its admin page, on 127.0.0.1.
    port: u16,
}

impl Caller {
    /// Has it call, in a container beside those of the Compose project.
    pub(crate) async fn start(self, project: &str) -> Result<Load> {
        let name = self.name.as_str();
        let run = ["compose", "--project-name", project, "run", "--detach"];
        let container = ["--no-deps", "--publish", ADMIN, "--name", name, "client"];
        let rate = self.rate.to_string();
        let calls = ["--rate", &rate, "--concurrency", CALLERS, "--forever"];
        let how = [
            "--timeout",
            "5s",
            "--service-config",
            CONFIG,
            "--output",
            "json",
        ];
        let mut command = [&run[..], &container, &calls, &how].concat();
        command.extend(self.arguments.iter().map(String::as_str));
        let started = docker(&command).await;
        started.with_context(|| format!("the calls to {} cannot be started", self.service))?;
        let port = docker(&["port", name, "9090"]).await?;
        let port = port.rsplit(':').next().and_then(|port| port.parse().ok());
        Ok(Load {
            port: port.context("docker tells no port of the calls")?,
            caller: self,
        })
    }
}

/// Removes those of these containers that there are, in whatever state they are.
pub(crate) async fn remove(names: &[String]) -> Result<()> {
    let names = names.iter().map(String::as_str);
    let command: Vec<_> = ["rm", "--force"].into_iter().chain(names).collect();
    docker(&command).await.map(drop)
}

impl Load {
    /// How its channel stands. An error unless its list is current.
    async fn channel(&self) -> Result<Value> {
        let mut channels = http::get(self.port, "/debug/channels").await?;
        let channel = channels[self.caller.service].take();
        ensure!(
            channel["freshness"] == "live",
            "the callers' list of {} is {}",
            self.caller.service,
            channel["freshness"]
        );
        Ok(channel)
    }

    /// How often each instance was picked, by its address. An error unless the list is current, has just these, and each is
    /// connected.
    pub(crate) async fn picks(&self, expected: &BTreeSet<String>) -> Result<BTreeMap<String, u64>> {
        let channel = self.channel().await?;
        let endpoints = channel["endpoints"].as_array().into_iter().flatten();
        let ready = endpoints.filter(|endpoint| endpoint["state"] == "READY");
        let picks: BTreeMap<_, _> = ready
            .filter_map(|endpoint| {
                let address = endpoint["id"].as_str()?.to_owned();
                Some((address, endpoint["picks"].as_u64()?))
            })
            .collect();
        ensure!(
            picks.keys().eq(expected),
            "the callers are connected to {:?}, and {expected:?} run",
            picks.keys()
        );
        Ok(picks)
    }

    /// How many calls have failed so far.
    pub(crate) async fn failed(&self) -> Result<u64> {
        // A machine that is busy may not answer at once.
        let page = async || http::text(self.port, "/metrics").await;
        let metrics = until(BOUND, "the caller's metrics", page).await?;
        let failed = metrics.lines().filter(|line| {
            line.starts_with("rpc_client_call_duration_seconds_count{")
                && !line.contains("rpc_response_status_code=\"OK\"")
        });
        let count = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        Ok(failed.filter_map(count).sum())
    }

    /// Stops the calls, and reads what came of them.
    pub(crate) async fn stop(&self) -> Result<Figures> {
        let name = self.caller.name.as_str();
        docker(&["kill", "--signal", "INT", name]).await?;
        let running = ["inspect", "--format", "{{.State.Running}}", name];
        until(BOUND, "the calls to end", async || {
            ensure!(docker(&running).await? == "false", "they have not ended");
            Ok(())
        })
        .await?;
        Figures::parse(&docker(&["logs", name]).await?)
    }
}
