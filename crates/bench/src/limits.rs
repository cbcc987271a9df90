//! What do callers notice of a peer that tries what it can on their server?

mod greeter;

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use testkit::hostile::Attack;
use tokio::{runtime, task::JoinSet, time::Instant};

use self::greeter::Greeter;
use crate::{
    table::{Table, grouped},
    turns::{median, progress},
};

const HOSTILE: &str = "hostile";

/// What do callers notice of a peer that tries what it can on their server?
///
/// The server is greeter-server with its default limits. Its caller has one connection and makes no second attempt; the peer is a
/// process of its own on one thread, which begins anew whenever the server has ended what it does. Both share the machine
/// with the server: on few cores a part of what the caller loses is what the peer computes, and not what the server does for it.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  bench limits --seconds 5 rapid-resets pings")]
pub(crate) struct Args {
    /// What is tried; everything, by default
    attacks: Vec<Attack>,
    /// Calls under way at a time, on one connection
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    callers: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Measurements with and without the peer, in turn, of which the medians count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// What the hostile process is told.
#[derive(clap::Args)]
pub(crate) struct HostileArgs {
    #[arg(long)]
    attack: Attack,
    #[arg(long)]
    server: SocketAddr,
}

/// What callers had in one measurement.
struct Served {
    /// A second.
    calls: f64,
    /// In microseconds.
    p99: f64,
    failed: u64,
    /// How often the peer has tried, a second.
    tries: f64,
    /// What the server holds in memory at the end, in MiB.
    resident: f64,
}

/// Measures each attack and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    println!(
        "{} callers on one connection, the medians of {} measurements of {} s with and without the peer in turn\n",
        args.callers, args.rounds, args.seconds
    );
    let attacks = if args.attacks.is_empty() {
        Attack::value_variants()
    } else {
        &args.attacks
    };
    let mut table = Table::new([
        "what the peer does",
        "tries/s",
        "calls/s without",
        "with",
        "ratio",
        "p99 without, µs",
        "with",
        "ratio",
        "failed calls",
        "server, MiB",
    ]);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let bar = progress(attacks.len() * args.rounds as usize);
    for attack in attacks {
        bar.set_message(attack.name());
        let (mut without, mut with) = (Vec::new(), Vec::new());
        let server = runtime.block_on(Greeter::start(attack.is_of_tls()))?;
        for _ in 0..args.rounds {
            without.push(runtime.block_on(serves(&server, args))?);
            let peer = Hostile::start(*attack, server.address)?;
            let beside = runtime.block_on(serves(&server, args))?;
            let tries = peer.tries()? / Duration::from_secs(args.seconds).as_secs_f64();
            with.push(Served { tries, ..beside });
            bar.inc(1);
        }
        table.row(row(attack.name(), &without, &with));
    }
    bar.finish_and_clear();
    print!("{table}");
    Ok(())
}

fn row(name: &str, without: &[Served], with: &[Served]) -> Vec<String> {
    let calls = |of: &[Served]| median(of, |served| served.calls);
    let p99 = |of: &[Served]| median(of, |served| served.p99);
    let failed: u64 = without.iter().chain(with).map(|served| served.failed).sum();
    vec![
        name.to_owned(),
        grouped(median(with, |served| served.tries)),
        grouped(calls(without)),
        grouped(calls(with)),
        format!("{:.2}", calls(with) / calls(without)),
        grouped(p99(without)),
        grouped(p99(with)),
        format!("{:.2}", p99(with) / p99(without)),
        failed.to_string(),
        grouped(median(with, |served| served.resident)),
    ]
}

/// What the server does for its callers for a while.
async fn serves(server: &Greeter, args: &Args) -> Result<Served> {
    let (began, lasts) = (Instant::now(), Duration::from_secs(args.seconds));
    let mut callers = JoinSet::new();
    for _ in 0..args.callers {
        callers.spawn(call_until(server.channel.clone(), began + lasts));
    }
    let (mut latencies, mut failed) = (Histogram::<u64>::new(3)?, 0);
    while let Some(done) = callers.join_next().await {
        let (of_one, failed_of_one) = done??;
        latencies.add(of_one)?;
        failed += failed_of_one;
    }
    Ok(Served {
        calls: latencies.len() as f64 / began.elapsed().as_secs_f64(),
        p99: latencies.value_at_quantile(0.99) as f64,
        failed,
        tries: 0.0,
        resident: server.resident()?,
    })
}

/// The latencies of the calls that were answered, in microseconds, and how many were not.
async fn call_until(channel: balance::Channel, over: Instant) -> Result<(Histogram<u64>, u64)> {
    let mut greeter = GreeterClient::new(channel);
    let (mut latencies, mut failed) = (Histogram::new(3)?, 0);
    while Instant::now() < over {
        let began = Instant::now();
        let name = "world".to_owned();
        match greeter.say_hello(HelloRequest { name }).await {
            Ok(_) => latencies.record(u64::try_from(began.elapsed().as_micros())?)?,
            Err(_) => failed += 1,
        }
    }
    Ok((latencies, failed))
}

/// The peer's process; ends when dropped.
struct Hostile(Child);

impl Hostile {
    fn start(attack: Attack, server: SocketAddr) -> Result<Self> {
        let word = attack.to_possible_value().context("no attack is skipped")?;
        let child = Command::new(env::current_exe()?)
            .args([
                HOSTILE,
                "--attack",
                word.get_name(),
                "--server",
                &server.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the hostile peer")?;
        Ok(Self(child))
    }

    /// Lets it end, and gives how often it has tried.
    fn tries(mut self) -> Result<f64> {
        drop(self.0.stdin.take());
        let stdout = self.0.stdout.take().context("it prints")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        line.trim()
            .parse()
            .with_context(|| format!("the hostile peer printed {line:?}"))
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tries the attack again and again until standard input ends, and prints how often.
pub(crate) fn be_hostile(args: &HostileArgs) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (attack, server) = (args.attack, args.server);
        let tries = Arc::new(AtomicU64::new(0));
        let mut peers = JoinSet::new();
        for _ in 0..at_a_time(attack) {
            let tries = Arc::clone(&tries);
            peers.spawn(async move {
                loop {
                    tries.fetch_add(1, Ordering::Relaxed);
                    // That it was refused is what it is for.
                    let _ = attack.try_on(server).await;
                }
            });
        }
        let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        end.await?
            .context("cannot wait for the end of standard input")?;
        println!("{}", tries.load(Ordering::Relaxed));
        Ok(())
    })
}

/// Those that only wait are many, and those that work a few.
fn at_a_time(attack: Attack) -> usize {
    match attack {
        Attack::SlowHandshake | Attack::SlowTlsHandshake | Attack::Silence => 900,
        Attack::Connections => 1,
        _ => 4,
    }
}
