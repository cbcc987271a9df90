//! What does a unary call cost its caller?

use anyhow::Result;

use crate::{
    cost,
    peers::{FULL, Peer},
    table::Table,
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
    #[command(flatten)]
    cost: cost::Args,
}

const PEERS: [Peer; 5] = [
    Peer::TonicOne,
    Peer::TonicBalance,
    Peer::Balance,
    Peer::BalanceFull,
    Peer::BareH2,
];

/// Measures all peers and prints the table.
pub(crate) fn run(Args { cost }: &Args) -> Result<()> {
    println!("{}; {FULL}\n", cost.in_words());
    let costs = cost.measure(Work::Unary, &PEERS, None)?;
    let mut table = Table::new([
        "channel",
        cost.unit(),
        "over tonic's direct channel",
        "over tonic's balanced channel",
    ]);
    for (peer, cost_of_it) in PEERS.iter().zip(&costs) {
        table.row([
            peer.name().to_owned(),
            cost.show(cost_of_it.median()),
            format!("{:.3}", cost_of_it.over(&costs[0])),
            format!("{:.3}", cost_of_it.over(&costs[1])),
        ]);
    }
    print!("{table}");
    Ok(())
}
