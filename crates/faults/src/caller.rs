//! Whoever calls the greeters while a fault is there: `greeter-client`, a thousand calls a second.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::{
    Port,
    fleet::{Client, Figures, Fleet},
    http, until,
};

use crate::scene::Pace;

/// How many calls are made at once. When a server hangs, each of them may wait for it once.
pub(crate) const CALLERS: u64 = 8;
const RATE: &str = "1000";
/// How long a call may take. Beside other tests it is late for want of a processor, and of nothing else.
pub(crate) fn deadline(pace: Pace) -> &'static str {
    pace.pick(DEADLINE, "10s")
}

/// The same wherever a server hangs, for which callers wait no longer.
pub(crate) const DEADLINE: &str = "1s";
/// gRPC's retry policy on UNAVAILABLE: three attempts.
pub(crate) const CONFIG: &str = r#"{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{}],
    "retryPolicy": {
      "maxAttempts": 3,
      "initialBackoff": "0.05s",
      "maxBackoff": "0.5s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}"#;
/// How long the caller may take to finish its last calls.
const FINISHED: Duration = Duration::from_secs(30);

pub(crate) struct Caller {
    client: Client,
    admin: Port,
}

impl Caller {
    /// Starts to call, each within that time.
    pub(crate) fn start(fleet: &mut Fleet, deadline: &str) -> Result<Self> {
        let admin = Port::free()?;
        fleet.set_env("DISCOVERY__ADMIN__LISTEN", &admin.address());
        let callers = CALLERS.to_string();
        let arguments = [
            "--rate",
            RATE,
            "--concurrency",
            &callers,
            "--timeout",
            deadline,
            "--forever",
            "--service-config",
            CONFIG,
            "--output",
            "json",
        ];
        let client = fleet.client(&arguments);
        fleet.set_env("DISCOVERY__ADMIN__LISTEN", "127.0.0.1:0");
        Ok(Self {
            client: client?,
            admin,
        })
    }

    /// What the caller's channel says of itself.
    pub(crate) async fn channel(&self) -> Result<Value> {
        let channels = http::get(self.admin.number(), "/debug/channels").await?;
        let channel = channels
            .get("greeter")
            .context("the caller has no channel to greeter")?;
        Ok(channel.clone())
    }

    /// Waits until it calls just those greeters, and each of them.
    pub(crate) async fn until_it_calls(&self, addresses: &[String], bound: Duration) -> Result<()> {
        let mut expected = addresses.to_vec();
        expected.sort_unstable();
        until(
            bound,
            &format!("the caller to call {expected:?}"),
            async || {
                let channel = self.channel().await?;
                let endpoints = channel["endpoints"].as_array().context("no endpoints")?;
                let ready = endpoints
                    .iter()
                    .filter(|endpoint| endpoint["state"] == "READY");
                let mut ready: Vec<_> = ready
                    .filter_map(|endpoint| endpoint["id"].as_str())
                    .collect();
                ready.sort_unstable();
                ensure!(ready == expected, "it calls {ready:?}");
                Ok(())
            },
        )
        .await
    }

    /// How often it has called one of the greeters, while that is one of its endpoints.
    pub(crate) async fn picks_of(&self, address: &str) -> Result<u64> {
        let channel = self.channel().await?;
        let mut endpoints = channel["endpoints"].as_array().into_iter().flatten();
        let endpoint = endpoints.find(|endpoint| endpoint["id"] == address);
        Ok(endpoint
            .and_then(|endpoint| endpoint["picks"].as_u64())
            .unwrap_or(0))
    }

    /// How many attempts have succeeded so far.
    pub(crate) async fn succeeded(&self) -> Result<u64> {
        self.attempts(|line| line.contains("grpc_status=\"OK\""))
            .await
    }

    /// How many attempts have failed so far.
    pub(crate) async fn failed(&self) -> Result<u64> {
        self.attempts(|line| !line.contains("grpc_status=\"OK\""))
            .await
    }

    async fn attempts(&self, is_counted: impl Fn(&str) -> bool) -> Result<u64> {
        let metrics = http::text(self.admin.number(), "/metrics").await?;
        let lines = metrics.lines().filter(|line| {
            line.starts_with("grpc_client_attempt_duration_seconds_count{") && is_counted(line)
        });
        let count = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        Ok(lines.filter_map(count).sum())
    }

    /// Stops it and reads its figures.
    pub(crate) async fn stop(self) -> Result<Figures> {
        self.client.interrupt()?;
        self.client.figures(FINISHED).await
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}
