//! How long does a caller wait, when many call?

use anyhow::Result;

use crate::{
    client::{Figures, Job},
    peers::{FULL, Peer},
    servers::Servers,
    table::{Table, grouped},
    turns::{self, median},
    work::Work,
};

/// How long does a caller wait, when many call?
///
/// As many tasks as callers, each of which makes its next call when the last has been answered: a channel that takes less
/// CPU time lets all of them wait less, and one that is unfair shows in the 99th and 99.9th percentiles.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Calls under way at a time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    callers: u32,
    /// Calls in each measurement
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(10_000..))]
    calls: u32,
    /// Measurements of each peer, of which the median counts
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Threads that the calls are made on
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
}

const PEERS: [Peer; 4] = [
    Peer::TonicOne,
    Peer::BalanceFullOne,
    Peer::TonicBalance,
    Peer::BalanceFull,
];

/// Measures all peers and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let servers = Servers::start()?;
    println!(
        "{} callers on {} threads, the servers on one of their own; the median of {} measurements of {} calls; {FULL}\n",
        args.callers, args.threads, args.rounds, args.calls
    );
    let measured = turns::take(&PEERS, args.rounds, Peer::name, |peer| {
        let job = Job {
            peer,
            work: Work::Timed,
            callers: args.callers,
            count: args.calls,
            threads: usize::from(args.threads),
            collector: None,
            addresses: servers.addresses.clone(),
        };
        job.measure()
    })?;
    let mut table = Table::new([
        "channel",
        "p50, µs",
        "p99, µs",
        "p99.9, µs",
        "p99 over tonic's direct channel",
    ]);
    let micros = |rounds: &[Figures], which: usize| median(rounds, |f| f.latencies[which] as f64);
    let yardstick = micros(&measured[0].1, 1);
    for (peer, rounds) in &measured {
        let [p50, p99, p999] = [0, 1, 2].map(|which| micros(rounds, which));
        table.row([
            peer.name().to_owned(),
            grouped(p50),
            grouped(p99),
            grouped(p999),
            format!("{:.2}", p99 / yardstick),
        ]);
    }
    print!("{table}");
    Ok(())
}
