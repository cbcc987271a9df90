//! What does the registry's client cost beside a bare etcd client?

mod follower;
mod keys;
mod mass;
mod visible;
mod watcher;

use std::time::Duration;

use anyhow::Result;
use testkit::etcd::Cluster;
use tokio::runtime;

pub(crate) use self::watcher::{WatchArgs, watch};
use self::{follower::Follower, keys::Keys, watcher::By};
use crate::{
    table::{Table, grouped},
    turns::median,
};

/// What does the registry's client cost beside a bare etcd client?
///
/// On an etcd cluster of three members on this machine. A bare client is etcd-client as it comes: it puts keys under a lease
/// that it has, and follows them by a list, a watch and a hash map of keys and values. Both follow in a process of their own.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Instances of the large service
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    instances: u32,
    /// Registrations whose way to a caller is timed
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    registrations: u32,
    /// Registrations made at once
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    mass: u32,
    /// Measurements of each, of which the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// How many instances the small service has.
const FEW: u32 = 10;
/// How many changes are made one after another to see what one costs.
const CHANGES: u32 = 3_000;
/// How many events come as fast as etcd takes them.
const EVENTS: u32 = 50_000;

/// Measures everything and prints the tables.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let cluster = Cluster::start(3).await?;
        let keys = Keys::of(&cluster).await?;
        println!(
            "three etcd members on this machine; the median of {} rounds\n",
            args.rounds
        );
        let mut table = Table::new(["", "bare etcd client", "the registry's client", "ratio"]);
        visible::rows(&cluster, &keys, args.registrations, &mut table).await?;
        mass::row(&cluster, &keys, args.mass, args.rounds, &mut table).await?;
        events(&cluster, &keys, args.rounds, &mut table).await?;
        println!("{table}");
        follow(&cluster, &keys, args).await
    })
}

/// How many events a second reach whoever follows, when very many come at once.
async fn events(cluster: &Cluster, keys: &Keys, rounds: u32, table: &mut Table) -> Result<()> {
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    keys.fill("burst", 1_000).await?;
    for _ in 0..rounds {
        for (by, figures) in [(By::Bare, &mut bare), (By::Registry, &mut ours)] {
            let mut follower = Follower::start(cluster, by, "burst").await?;
            let (began, revision) = keys.burst("burst", 1_000, EVENTS).await?;
            follower.until(revision).await?;
            figures.push(f64::from(EVENTS) / began.elapsed().as_secs_f64());
        }
    }
    let (bare, ours) = (median(&bare, |f| *f), median(&ours, |f| *f));
    table.row([
        "events followed a second".to_owned(),
        grouped(bare),
        grouped(ours),
        format!("{:.2}", ours / bare),
    ]);
    Ok(())
}

/// What the instances of a service take in memory, and what a change of one of them costs among few and very many.
async fn follow(cluster: &Cluster, keys: &Keys, args: &Args) -> Result<()> {
    keys.fill("few", FEW).await?;
    keys.fill("many", args.instances).await?;
    let mut table = Table::new([
        "",
        "bytes an instance",
        "CPU µs a change, of 10",
        &format!("of {}", grouped(f64::from(args.instances))),
        "ratio",
    ]);
    for by in [By::Bare, By::Registry] {
        let (mut memory, mut few, mut many) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            let of_few = Follower::start(cluster, by, "few").await?;
            let of_many = Follower::start(cluster, by, "many").await?;
            let grown = of_many.memory - of_few.memory;
            memory.push(grown / f64::from(args.instances - FEW));
            few.push(a_change(of_few, keys, "few", FEW).await?);
            many.push(a_change(of_many, keys, "many", args.instances).await?);
        }
        let (few, many) = (median(&few, |f| *f), median(&many, |f| *f));
        table.row([
            by.name().to_owned(),
            grouped(median(&memory, |f| *f)),
            format!("{few:.1}"),
            format!("{many:.1}"),
            format!("{:.2}", many / few),
        ]);
    }
    print!("{table}");
    Ok(())
}

/// What one change costs a follower, in microseconds.
async fn a_change(
    mut follower: Follower,
    keys: &Keys,
    service: &str,
    instances: u32,
) -> Result<f64> {
    let before: Duration = follower.cpu().await?;
    let revision = keys.change(service, instances, CHANGES).await?;
    follower.until(revision).await?;
    let after = follower.cpu().await?;
    let took = after.saturating_sub(before);
    Ok(took.as_secs_f64() * 1e6 / f64::from(CHANGES))
}
