//! What does an endpoint take in memory, before it is connected?

use std::{
    env,
    process::{Command, Stdio, exit},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use balance::{Channel, ConnectivityState};
use serde::{Deserialize, Serialize};
use tokio::{runtime, time::timeout};

use crate::{
    fleet::Fleet,
    process::resident,
    servers::Servers,
    table::{Table, grouped},
    turns::{median, progress},
    valgrind::Count,
};

/// What does an endpoint take in memory, before it is connected?
///
/// A channel to very many instances in a registry in memory, by policies that connect to one of them or to none. What the
/// registry itself takes for its instances is counted apart: the channel shares them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Instances
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    endpoints: u32,
    /// Measurements of each policy, of which the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// Policies that leave endpoints idle.
const POLICIES: [&str; 2] = ["pick_first", "ring_hash"];

/// What is held while it is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct HoldArgs {
    /// Without one, only the registry is held.
    #[arg(long)]
    policy: Option<String>,
    #[arg(long)]
    endpoints: u32,
    #[arg(long)]
    port: u16,
}

/// In bytes, of all endpoints together.
#[derive(Debug, Serialize, Deserialize)]
struct Resident {
    registry: f64,
    channel: f64,
}

/// Measures all policies and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (_server, port) = Servers::everywhere()?;
    println!(
        "{} endpoints; resident memory: the median of {} measurements; held on the heap: counted by valgrind\n",
        grouped(f64::from(args.endpoints)),
        args.rounds
    );
    let bar = progress(POLICIES.len() * (args.rounds as usize + 1) + 2);
    let per_endpoint = |bytes: f64| grouped(bytes / f64::from(args.endpoints));
    let held = |policy: Option<&str>, endpoints| {
        bar.inc(1);
        let args = HoldArgs {
            policy: policy.map(str::to_owned),
            endpoints,
            port,
        };
        Count::Held.of(args.args())
    };
    let nothing = held(None, 1)?;
    let registry = held(None, args.endpoints)?;
    let mut table = Table::new(["", "resident bytes an endpoint", "of them on the heap"]);
    for policy in POLICIES {
        let mut rounds = Vec::new();
        for _ in 0..args.rounds {
            bar.set_message(policy);
            rounds.push(in_a_process(policy, args.endpoints, port)?);
            bar.inc(1);
        }
        if policy == POLICIES[0] {
            table.row([
                "the registry's own snapshot".to_owned(),
                per_endpoint(median(&rounds, |round| round.registry)),
                per_endpoint(registry - nothing),
            ]);
        }
        let heap = held(Some(policy), args.endpoints)? - registry;
        table.row([
            format!("a channel with {policy}"),
            per_endpoint(median(&rounds, |round| round.channel)),
            per_endpoint(heap),
        ]);
    }
    bar.finish_and_clear();
    print!("{table}");
    Ok(())
}

impl HoldArgs {
    fn args(&self) -> Vec<String> {
        let mut args = vec!["hold".to_owned()];
        for (name, value) in [
            ("--policy", self.policy.clone()),
            ("--endpoints", Some(self.endpoints.to_string())),
            ("--port", Some(self.port.to_string())),
        ] {
            args.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        }
        args
    }
}

fn in_a_process(policy: &str, endpoints: u32, port: u16) -> Result<Resident> {
    let args = HoldArgs {
        policy: Some(policy.to_owned()),
        endpoints,
        port,
    };
    let output = Command::new(env::current_exe()?)
        .args(args.args())
        // What was needed for a moment only is given back at once, and is not taken for what is held.
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .env("MALLOC_TRIM_THRESHOLD_", "0")
        .env("MALLOC_TOP_PAD_", "0")
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "holding by {policy} failed");
    serde_json::from_slice(&output.stdout).context("what holds prints its figures")
}

/// Holds a channel, prints what it takes, and ends while it is held.
pub(crate) fn hold(args: &HoldArgs) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let before = resident()?;
        let fleet = Fleet::register(args.endpoints, args.port).await?;
        let _watch = fleet.watch().await?;
        let registered = resident()?;
        let channel = match &args.policy {
            Some(policy) => Some(settled(&fleet, policy).await?),
            None => None,
        };
        let figures = Resident {
            registry: registered - before,
            channel: resident()? - registered,
        };
        println!("{}", serde_json::to_string(&figures)?);
        // Whatever is held now is still held at the end, where valgrind counts it.
        let _held = (channel, fleet);
        exit(0)
    })
}

/// A channel that knows all endpoints, and is connected to those that its policy wants.
async fn settled(fleet: &Fleet, policy: &str) -> Result<Channel> {
    let channel = Channel::builder(Fleet::SERVICE)
        .registry(&fleet.registry)
        .policy(policy)
        .build()?;
    let known = async {
        while channel.state() == ConnectivityState::Connecting {
            channel
                .wait_for_state_change(ConnectivityState::Connecting)
                .await;
        }
    };
    timeout(Duration::from_mins(2), known)
        .await
        .context("the channel did not settle within 120 s")?;
    Ok(channel)
}
