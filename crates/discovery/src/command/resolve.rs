//! `discovery resolve`: what a caller would get.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};
use balance::{Channel, EndpointExplanation, Explanation, HashKey};
use clap::Args;
use comfy_table::{Cell, Color};
use registry::Zone;
use serde::Serialize;
use service_kit::terminal::{Look, align_right, printable};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{args::positive_time, session::Session};

const EXAMPLE: &str = "\
Examples:
  discovery resolve greeter --picks 1000
      Whom a thousand calls would go to.
  discovery resolve 'greeter?version=v2' --policy least_request
      The same by another policy, among the instances of one version.
  discovery resolve greeter --policy ring_hash --key 'customer 4711'
      Who serves that customer, by a policy that hashes.

It connects as a caller does and asks the caller's own picker; no call is made. So a policy that
goes by what it measures (latency, load, calls in flight) shows what it does before it knows any.
The service config that the registry has for the service is in force.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ResolveArgs {
    /// Whom a caller would name: `greeter`, `greeter?version=v2`, `static:///10.0.0.1:1,10.0.0.2:1`
    target: String,

    /// Balances by this policy, whatever the service config says
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,

    /// How many calls to pick for
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    picks: u32,

    /// Where the caller runs, for a service config that prefers its zone
    #[arg(long, value_parser = Zone::new)]
    zone: Option<Zone>,

    /// What each call hashes, for a policy that hashes; without it each call hashes something else
    #[arg(long)]
    key: Option<String>,

    /// The method called, which a service config may tell apart
    #[arg(long, value_name = "/SERVICE/METHOD", default_value = "/")]
    method: String,

    /// How long the instances may take to be found and connected
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = positive_time)]
    connect_timeout: Duration,
}

/// The shape of `--output json`.
#[derive(Serialize)]
struct Shape {
    target: String,
    /// The channel's connectivity state, in gRPC's words.
    state: String,
    revision: Option<u64>,
    /// How many calls were picked for.
    picks: u64,
    instances: Vec<Instance>,
    left_out: Vec<LeftOut>,
    /// The service config in force, as it was written.
    service_config: String,
    /// Where in the registry that stands; `None` of the channel's own.
    service_config_key: Option<String>,
}

#[derive(Serialize)]
struct Instance {
    id: String,
    addresses: Vec<String>,
    zone: Option<String>,
    version: Option<String>,
    weight: u32,
    status: String,
    state: String,
    picks: u64,
    /// 0.0 to 1.0.
    share: f64,
    /// Why it is not picked, where that is known.
    remark: Option<String>,
}

#[derive(Serialize)]
struct LeftOut {
    id: String,
    key: Option<String>,
    remark: String,
}

impl ResolveArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        let mut channel = Channel::builder(&self.target)
            .registry(&session.registry)
            .meter(&session.telling.telemetry.meter("balance"));
        if let Some(tls) = session.tls().await? {
            channel = channel.tls(tls);
        }
        if let Some(policy) = &self.policy {
            channel = channel.policy(policy);
        }
        if let Some(zone) = &self.zone {
            channel = channel.zone(zone.clone());
        }
        let channel = channel.build()?;
        let (picked, failure) = self.pick(&channel).await;
        let shape = Shape::new(channel.explain(), &picked);
        session.show(&shape, |look| draw(&shape, look))?;
        match failure {
            None => Ok(()),
            Some(failure) => Err(failure),
        }
    }

    /// How often each instance was picked, and why there were not more picks.
    async fn pick(&self, channel: &Channel) -> (BTreeMap<String, u64>, Option<anyhow::Error>) {
        let mut picked = BTreeMap::new();
        let result = async {
            let connected_by = Instant::now() + self.connect_timeout;
            self.pick_one(channel).await?;
            // Some may be out of reach: then it is for the policy to go on without.
            let _ = timeout_at(connected_by, channel.settled()).await;
            for _ in 0..self.picks {
                *picked.entry(self.pick_one(channel).await?).or_default() += 1;
            }
            anyhow::Ok(())
        };
        let failure = result.await.err();
        (picked, failure)
    }

    async fn pick_one(&self, channel: &Channel) -> Result<String> {
        let (target, bound) = (&self.target, self.connect_timeout);
        let key = self.key.as_ref().map(HashKey::of);
        match timeout(bound, channel.choose(&self.method, key)).await {
            Ok(Ok(instance)) => Ok(instance.id.to_string()),
            Ok(Err(status)) => bail!(
                "a call to {target} would fail with {}: {}",
                status.code().name(),
                printable(status.message())
            ),
            Err(_) => bail!(
                "no instance of {target} was connected within {}; give it longer with --connect-timeout",
                humantime::format_duration(bound)
            ),
        }
    }
}

impl Shape {
    fn new(explained: Explanation, picked: &BTreeMap<String, u64>) -> Self {
        let picks: u64 = picked.values().sum();
        let share = |endpoint: EndpointExplanation| {
            let its = picked.get(&endpoint.id).copied().unwrap_or_default();
            Instance {
                picks: its,
                share: its as f64 / picks.max(1) as f64,
                remark: endpoint.remark,
                id: endpoint.id,
                addresses: endpoint.addresses,
                zone: endpoint.zone,
                version: endpoint.version,
                weight: endpoint.weight,
                status: endpoint.status,
                state: endpoint.state,
            }
        };
        let left_out = explained.left_out.into_iter().map(|one| LeftOut {
            id: one.id,
            key: one.key,
            remark: one.remark,
        });
        Self {
            target: explained.target,
            state: explained.state,
            revision: explained.revision,
            picks,
            instances: explained.endpoints.into_iter().map(share).collect(),
            left_out: left_out.collect(),
            service_config: explained.service_config,
            service_config_key: explained.service_config_key,
        }
    }
}

fn draw(shape: &Shape, look: Look) -> String {
    if shape.instances.is_empty() && shape.left_out.is_empty() {
        return format!("{} has no instance", shape.target);
    }
    let mut table = look.table(&["instance", "state", "weight", "picks", "share", "why"]);
    for one in &shape.instances {
        let state = Cell::new(&one.state).fg(match one.state.as_str() {
            "READY" => Color::Green,
            "TRANSIENT_FAILURE" => Color::Red,
            _ => Color::Yellow,
        });
        table.add_row(vec![
            Cell::new(&one.id),
            state,
            Cell::new(one.weight),
            Cell::new(one.picks),
            Cell::new(format!("{:.1} %", one.share * 100.0)),
            Cell::new(printable(one.remark.as_deref().unwrap_or_default())),
        ]);
    }
    for one in &shape.left_out {
        let (id, why) = (Cell::new(&one.id), Cell::new(printable(&one.remark)));
        let out = Cell::new("left out").fg(Color::Yellow);
        table.add_row(vec![
            id,
            out,
            Cell::new(""),
            Cell::new(""),
            Cell::new(""),
            why,
        ]);
    }
    align_right(&mut table, 2..5);
    let of = match &shape.service_config_key {
        Some(key) => format!("by the service config {}", printable(key)),
        None => "without a service config from the registry".to_owned(),
    };
    let Shape {
        target,
        state,
        picks,
        ..
    } = shape;
    format!("{table}\n{target} is {state}; picked for {picks} calls, {of}.")
}
