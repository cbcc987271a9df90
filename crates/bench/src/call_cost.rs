//! What does a unary call cost its caller?

use anyhow::Result;

use crate::{
    client::Job,
    peers::{FULL, Peer},
    servers::Servers,
    table::{Table, grouped},
    turns::{self, median},
    valgrind::Count,
    work::Work,
};

/// What does a unary call cost its caller, in CPU time or in instructions?
///
/// CPU time is that of the calling process alone, in user and in kernel mode. Instructions are those in user mode, by
/// valgrind: the same on every run, and blind to system calls and to threads that wait for one another.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bench call-cost --threads 2\n  bench call-cost --callers 16 --instructions"
)]
pub(crate) struct Args {
    /// Calls under way at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    callers: u32,
    /// Calls in each measurement of time
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    calls: u32,
    /// Measurements of each peer, of which the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Threads that the calls are made on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Count instructions with valgrind instead of measuring time (slow, and repeatable)
    #[arg(long)]
    instructions: bool,
}

const PEERS: [Peer; 7] = [
    Peer::TonicOne,
    Peer::TonicBalance,
    Peer::Balance,
    Peer::BalanceTraced,
    Peer::BalanceWatched,
    Peer::BalanceFull,
    Peer::BareH2,
];

/// Measures all peers and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let servers = Servers::start()?;
    let job = |peer| Job {
        peer,
        work: Work::Unary,
        callers: args.callers,
        count: args.calls,
        threads: usize::from(args.threads),
        addresses: servers.addresses.clone(),
    };
    let threads = match args.threads {
        1 => "one thread".to_owned(),
        more => format!("{more} threads"),
    };
    let (unit, rounds) = if args.instructions {
        println!(
            "{} callers, {threads}, counted by valgrind; {FULL}\n",
            args.callers
        );
        ("instructions a call", 3)
    } else {
        println!(
            "{} callers, {threads}, the median of {} measurements of {} calls; {FULL}\n",
            args.callers, args.rounds, args.calls
        );
        ("CPU µs a call", args.rounds)
    };
    let measured = turns::take(&PEERS, rounds, Peer::name, |peer| {
        if args.instructions {
            return Count::Instructions.per_call(&job(peer));
        }
        Ok(job(peer).measure()?.cpu * 1e6 / f64::from(args.calls))
    })?;
    print(unit, args.instructions, &measured);
    Ok(())
}

fn print(unit: &str, whole: bool, measured: &[(Peer, Vec<f64>)]) {
    let mut table = Table::new([
        "channel",
        unit,
        "over tonic's direct channel",
        "over tonic's balanced channel",
    ]);
    let figures: Vec<f64> = measured
        .iter()
        .map(|(_, rounds)| median(rounds, |figure| *figure))
        .collect();
    for ((peer, _), figure) in measured.iter().zip(&figures) {
        let shown = if whole {
            grouped(*figure)
        } else {
            format!("{figure:.2}")
        };
        table.row([
            peer.name().to_owned(),
            shown,
            format!("{:.2}", figure / figures[0]),
            format!("{:.2}", figure / figures[1]),
        ]);
    }
    print!("{table}");
}
