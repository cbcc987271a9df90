//! How often does a call allocate?

use anyhow::Result;

use crate::{
    client::Job,
    peers::{FULL, Peer},
    servers::Servers,
    table::Table,
    turns,
    valgrind::Count,
    work::Work,
};

/// How often does a call allocate, beyond what the request and the response need by themselves?
///
/// Counted by valgrind, as the difference between runs of 6,000 and of 2,000 calls. What the request and the response need
/// is what tonic's generated client allocates over a service in memory that answers at once, with the headers, the bytes
/// and the trailers that the servers send.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Calls under way at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    callers: u32,
}

const PEERS: [Peer; 5] = [
    Peer::InMemory,
    Peer::TonicOne,
    Peer::TonicBalance,
    Peer::Balance,
    Peer::BalanceFull,
];

/// Counts for all peers and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let servers = Servers::start()?;
    println!(
        "{} callers, one thread, unary calls, counted by valgrind; {FULL}\n",
        args.callers
    );
    let counted = turns::take(&PEERS, 1, Peer::name, |peer| {
        Count::Allocations.per_call(&Job {
            peer,
            work: Work::Unary,
            callers: args.callers,
            count: 0,
            threads: 1,
            collector: None,
            addresses: servers.addresses.clone(),
        })
    })?;
    let mut table = Table::new([
        "channel",
        "allocations a call",
        "beyond the request's and the response's own",
    ]);
    let own = counted[0].1[0];
    for (peer, counts) in &counted {
        table.row([
            peer.name().to_owned(),
            format!("{:.1}", counts[0]),
            format!("{:.1}", counts[0] - own),
        ]);
    }
    print!("{table}");
    Ok(())
}
