//! What does it add to a call that it is watched?

use anyhow::{Result, ensure};
use testkit::otlp::Collector;
use tokio::runtime;

use crate::{cost, peers::Peer, table::Table, work::Work};

/// What does it add to a call that one in a hundred is traced, and all are measured?
///
/// A greeter call is made as greeter-client makes it: with a deadline, by its service config, and by a caller that would wait for an
/// instance and wants to know who answered. A bare call has nothing but its request. Spans are sent to a collector, whose work does not count.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bench watching --rounds 101\n  bench watching --callers 16 --instructions"
)]
pub(crate) struct Args {
    #[command(flatten)]
    cost: cost::Args,
}

const PEERS: [Peer; 3] = [Peer::Balance, Peer::BalanceTraced, Peer::BalanceWatched];

/// Measures both kinds of calls and prints the table.
pub(crate) fn run(Args { cost }: &Args) -> Result<()> {
    println!("{}\n", cost.in_words());
    let aside = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let collector = aside.block_on(Collector::start())?;
    let mut table = Table::new([
        "channel",
        "call",
        cost.unit(),
        "over the same call that is not watched",
    ]);
    for (call, work) in [
        ("a greeter call", Work::Greeting),
        ("a bare call", Work::Unary),
    ] {
        let costs = cost.measure(work, &PEERS, Some(collector.endpoint()))?;
        for (peer, cost_of_it) in PEERS.iter().zip(&costs) {
            table.row([
                peer.name().to_owned(),
                call.to_owned(),
                cost.show(cost_of_it.median()),
                format!("{:.3}", cost_of_it.over(&costs[0])),
            ]);
        }
    }
    ensure!(
        !collector.spans().is_empty(),
        "no span has come to the collector"
    );
    print!("{table}");
    Ok(())
}
