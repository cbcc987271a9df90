//! What does it cost when one endpoint of very many changes, again and again?

use std::{
    env,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use balance::{Channel, HashKey, policy::CallInfo};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio::{
    runtime,
    sync::watch,
    time::{Instant, interval, sleep, timeout},
};

use crate::{
    fleet::Fleet,
    process::{allow_open_files, cpu_time},
    servers::Servers,
    table::{Table, grouped},
    turns::progress,
};

/// What does it cost when one endpoint of very many changes, again and again?
///
/// A channel with a connection to each of them follows a registry in memory, in which one instance after another changes
/// its weight. What is measured is the CPU time of the whole process: the registry, its watch and the channel.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Instances, all of them connected
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    endpoints: u32,
    /// Changes a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// For how long it changes, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
}

/// All but `pick_first`, which connects to one endpoint, and `random`, which is `round_robin` for what is measured.
const POLICIES: [&str; 7] = [
    "round_robin",
    "weighted_round_robin",
    "weighted_random",
    "least_request",
    "peak_ewma",
    "ring_hash",
    "maglev",
];

/// What follows the registry.
#[derive(Debug, clap::Args)]
pub(crate) struct FollowArgs {
    /// Without one there is no channel, only the registry.
    #[arg(long)]
    policy: Option<String>,
    #[arg(long)]
    endpoints: u32,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    rate: u32,
    #[arg(long)]
    seconds: u32,
}

/// CPU time, in percent of a core.
#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    quiet: f64,
    changing: f64,
    /// How often the picker was rebuilt a second, while something changed.
    rebuilds: f64,
}

/// Measures all policies and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    allow_open_files(args.endpoints)?;
    let (_server, port) = Servers::everywhere()?;
    println!(
        "{} connected endpoints, {} changes a second for {} s\n",
        grouped(f64::from(args.endpoints)),
        args.rate,
        args.seconds
    );
    let bar = progress(POLICIES.len() + 1);
    let mut table = Table::new([
        "",
        "% of a core, nothing changes",
        "% of a core, changes",
        "rebuilds a second",
    ]);
    for policy in std::iter::once(None).chain(POLICIES.map(Some)) {
        bar.set_message(policy.unwrap_or("no channel"));
        let figures = in_a_process(args, policy, port)?;
        table.row([
            match policy {
                Some(policy) => format!("a channel with {policy}"),
                None => "no channel: the registry and its watch".to_owned(),
            },
            format!("{:.1}", figures.quiet),
            format!("{:.1}", figures.changing),
            match policy {
                Some(_) => format!("{:.0}", figures.rebuilds),
                None => String::new(),
            },
        ]);
        bar.inc(1);
    }
    bar.finish_and_clear();
    print!("{table}");
    Ok(())
}

fn in_a_process(args: &Args, policy: Option<&str>, port: u16) -> Result<Figures> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("follow");
    for (name, value) in [
        ("--endpoints", args.endpoints),
        ("--port", u32::from(port)),
        ("--rate", args.rate),
        ("--seconds", args.seconds),
    ] {
        command.args([name, &value.to_string()]);
    }
    if let Some(policy) = policy {
        command.args(["--policy", policy]);
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "following by {policy:?} failed");
    serde_json::from_slice(&output.stdout).context("what follows prints its figures")
}

/// Follows a registry while nothing changes, and while something does, and prints what both take.
pub(crate) fn follow(args: &FollowArgs) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = runtime.block_on(async {
        let mut fleet = Fleet::register(args.endpoints, args.port).await?;
        let _watch = fleet.watch().await?;
        let channel = match &args.policy {
            Some(policy) => Some(connected(&fleet, policy, args.endpoints).await?),
            None => None,
        };
        let quiet = quiet().await?;
        let rebuilds = async {
            match &channel {
                Some(channel) => count(channel.rebuilds(), args.seconds).await,
                None => 0,
            }
        };
        let changing = changing(&mut fleet, args.rate, args.seconds);
        let (changing, rebuilds) = tokio::join!(changing, rebuilds);
        anyhow::Ok(Figures {
            quiet,
            changing: changing?,
            rebuilds: f64::from(rebuilds) / f64::from(args.seconds),
        })
    })?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// How often it changes in so many seconds.
async fn count(mut changes: watch::Receiver<()>, seconds: u32) -> u32 {
    let mut count = 0;
    let counting = async {
        while changes.changed().await.is_ok() {
            count += 1;
        }
    };
    // The end of time is the end of the count.
    let _ = timeout(Duration::from_secs(seconds.into()), counting).await;
    count
}

/// A channel with a connection to each of so many endpoints, but for a few that hardly a key falls on.
async fn connected(fleet: &Fleet, policy: &str, endpoints: u32) -> Result<Channel> {
    let channel = Channel::builder(Fleet::SERVICE)
        .registry(&fleet.registry)
        .policy(policy)
        .build()?;
    let ready = || {
        let explanation = channel.explain();
        let states = explanation.endpoints.iter();
        states.filter(|endpoint| endpoint.state == "READY").count()
    };
    let wanted = endpoints as usize - endpoints as usize / 100;
    let headers = HeaderMap::new();
    let mut keys = (0_u64..).map(|number| HashKey::of(number.to_le_bytes()));
    let all = async {
        while ready() < wanted {
            // Some policies connect those that a call is for, and no others.
            for key in keys.by_ref().take(endpoints as usize) {
                let call = CallInfo::new("/", &headers).with_hash_key(key);
                drop(channel.pick(&call, Instant::now()));
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    if timeout(Duration::from_mins(2), all).await.is_err() {
        let ready = ready();
        anyhow::bail!("only {ready} of {endpoints} endpoints were connected within 120 s");
    }
    Ok(channel)
}

async fn quiet() -> Result<f64> {
    let before = (cpu_time()?, Instant::now());
    sleep(Duration::from_secs(3)).await;
    percent_since(before)
}

async fn changing(fleet: &mut Fleet, rate: u32, seconds: u32) -> Result<f64> {
    let before = (cpu_time()?, Instant::now());
    let mut ticks = interval(Duration::from_secs(1) / rate);
    for change in 0..rate * seconds {
        ticks.tick().await;
        // Far apart, as changes are.
        fleet.reweigh(change as usize * 7_919).await?;
    }
    percent_since(before)
}

fn percent_since((cpu, started): (Duration, Instant)) -> Result<f64> {
    let used = cpu_time()?.saturating_sub(cpu);
    Ok(used.as_secs_f64() / started.elapsed().as_secs_f64() * 100.0)
}
