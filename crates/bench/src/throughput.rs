//! How much goes through one connection?

use anyhow::Result;

use crate::{
    client::Job,
    peers::{FULL, Peer},
    servers::Servers,
    table::{Table, grouped},
    turns::{self, median},
    work::{STREAM, Work},
};

/// How much goes through one connection: large messages, and long streams of small ones?
///
/// Large messages are unary calls with 1 MiB each way, some at a time. Streams are one at a time, of 100,000 messages
/// each: to the server, from it, and both.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Large calls under way at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    callers: u32,
    /// Large calls in each measurement
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(10..))]
    calls: u32,
    /// Small messages in each measurement, 100,000 of them on a stream
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    messages: u32,
    /// Measurements of each peer, of which the median counts
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Threads that the client runs on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
}

const PEERS: [Peer; 2] = [Peer::TonicOne, Peer::BalanceFullOne];

const WORKS: [(Work, &str); 4] = [
    (Work::Large, "1 MiB each way, MiB/s each way"),
    (Work::ClientStream, "one stream to the server, messages/s"),
    (Work::ServerStream, "one stream from the server, messages/s"),
    (Work::BidiStream, "one stream each way, messages/s each way"),
];

/// Measures both channels with each kind of work, and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let servers = Servers::start()?;
    println!(
        "{} large calls at a time; streams of {} messages, one at a time; client threads: {}; the median of {} \
         measurements; ours is {} ({FULL})\n",
        args.callers,
        grouped(f64::from(STREAM.min(args.messages))),
        args.threads,
        args.rounds,
        PEERS[1].name(),
    );
    let contestants: Vec<(Work, Peer)> = WORKS
        .iter()
        .flat_map(|(work, _)| PEERS.map(|peer| (*work, peer)))
        .collect();
    let name = |(_, peer): (Work, Peer)| peer.name();
    let measured = turns::take(&contestants, args.rounds, name, |(work, peer)| {
        let count = match work {
            Work::Large => args.calls,
            _ => args.messages,
        };
        let job = Job {
            peer,
            work,
            callers: args.callers,
            count,
            threads: usize::from(args.threads),
            collector: None,
            addresses: servers.addresses.clone(),
        };
        Ok(f64::from(count) / job.measure()?.elapsed)
    })?;
    let mut table = Table::new(["", "tonic Channel", "balance::Channel", "ours over tonic's"]);
    for ((_, what), pair) in WORKS.iter().zip(measured.chunks(PEERS.len())) {
        let [tonic, ours] = [0, 1].map(|which| median(&pair[which].1, |figure| *figure));
        table.row([
            (*what).to_owned(),
            grouped(tonic),
            grouped(ours),
            format!("{:.2}", ours / tonic),
        ]);
    }
    print!("{table}");
    Ok(())
}
