//! Who calls the greeters meanwhile: a `greeter-client` in a container of its own, as one is set up whose calls may not fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::{fleet::Figures, http, until};

use crate::docker::docker;

const CALLERS: &str = "16";
/// A greeting may be asked for twice, so that a call that waits for one greeter is sent to another as well: a greeter that hangs or
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

/// Running calls.
#[derive(Debug)]
pub(crate) struct Load {
    name: String,
    /// Of its admin page, on 127.0.0.1.
    port: u16,
}

impl Load {
    /// Starts to make that many calls a second, in a container of that name beside those of the Compose project.
    pub(crate) async fn start(project: &str, name: &str, rate: u32) -> Result<Self> {
        let admin = "127.0.0.1:0:9090";
        let run = ["compose", "--project-name", project, "run", "--detach"];
        let container = ["--no-deps", "--publish", admin, "--name", name, "client"];
        let rate = rate.to_string();
        let calls = ["--rate", &rate, "--concurrency", CALLERS, "--forever"];
        let how = [
            "--timeout",
            "5s",
            "--service-config",
            CONFIG,
            "--output",
            "json",
        ];
        let started = docker(&[&run[..], &container, &calls, &how].concat()).await;
        started.context("the calls cannot be started")?;
        let port = docker(&["port", name, "9090"]).await?;
        let port = port.rsplit(':').next().and_then(|port| port.parse().ok());
        Ok(Self {
            name: name.to_owned(),
            port: port.context("docker tells no port of the calls")?,
        })
    }

    /// How its channel stands. An error unless its list is current.
    async fn channel(&self) -> Result<Value> {
        let mut channels = http::get(self.port, "/debug/channels").await?;
        let channel = channels["greeter"].take();
        ensure!(
            channel["freshness"] == "live",
            "the callers' list is {}",
            channel["freshness"]
        );
        Ok(channel)
    }

    /// How often each greeter was picked, by its address. An error unless the list is current, has just these, and each is
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
        docker(&["kill", "--signal", "INT", &self.name]).await?;
        let running = ["inspect", "--format", "{{.State.Running}}", &self.name];
        until(BOUND, "the calls to end", async || {
            ensure!(docker(&running).await? == "false", "they have not ended");
            Ok(())
        })
        .await?;
        Figures::parse(&docker(&["logs", &self.name]).await?)
    }

    /// Removes the container, in whatever state it is.
    pub(crate) async fn remove(&self) -> Result<()> {
        docker(&["rm", "--force", &self.name]).await.map(drop)
    }
}
