//! How long it takes until a registration is seen by whoever follows.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::WatchOptions;
use registry::{Address, Instance, Registry, ServiceName};
use testkit::etcd::Cluster;
use tokio::time::{Instant, timeout};

use super::keys::{Keys, instance};
use crate::table::Table;

const TTL: Duration = Duration::from_mins(1);
const BOUND: Duration = Duration::from_secs(10);

pub(super) async fn rows(
    cluster: &Cluster,
    keys: &Keys,
    count: u32,
    table: &mut Table,
) -> Result<()> {
    let registry = registry::connect(&cluster.url("visible"))?;
    // Whoever is there already has a lease, as the bare client has.
    let first = registry.register(registration(0)?, TTL);
    let mut follower = registry.watch(&service()?);
    follower.first().await;
    let options = WatchOptions::new().with_prefix();
    let mut watch = keys.client().watch("bare/", Some(options)).await?;
    watch.message().await?;

    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for number in 1..=count {
        let (key, value) = instance("bare", number, 2);
        let began = Instant::now();
        let seen = async {
            keys.put(key, value).await?;
            watch.message().await?.context("the watch has ended")
        };
        timeout(BOUND, seen).await??;
        bare.push(began.elapsed());
        ours.push(seen_after(&registry, &mut follower, number).await?);
    }
    drop(first);
    for (name, place) in [("p50", 50), ("p99", 99)] {
        let (bare, ours) = (percentile(&mut bare, place), percentile(&mut ours, place));
        table.row([
            format!("a registration is seen after, {name}"),
            format!("{:.2} ms", bare * 1e3),
            format!("{:.2} ms", ours * 1e3),
            format!("{:.2}", ours / bare),
        ]);
    }
    Ok(())
}

async fn seen_after(
    registry: &Registry,
    follower: &mut registry::SnapshotWatch,
    number: u32,
) -> Result<Duration> {
    let instance = registration(number)?;
    let id = instance.id.clone();
    let began = Instant::now();
    let registration = registry.register(instance, TTL);
    let seen = async {
        while follower
            .changed()
            .await
            .snapshot
            .is_none_or(|snapshot| snapshot.get(&id).is_none())
        {}
    };
    timeout(BOUND, seen).await?;
    let took = began.elapsed();
    registration.deregister().await?;
    let gone = async {
        while follower
            .changed()
            .await
            .snapshot
            .is_none_or(|snapshot| snapshot.get(&id).is_some())
        {}
    };
    timeout(BOUND, gone).await?;
    Ok(took)
}

fn service() -> Result<ServiceName> {
    Ok(ServiceName::new("ours")?)
}

fn registration(number: u32) -> Result<Instance> {
    let [_, a, b, c] = number.to_be_bytes();
    let address = Address::new(&format!("10.{a}.{b}.{c}:50051"))?;
    Ok(Instance::new(service()?, address))
}

fn percentile(times: &mut [Duration], place: usize) -> f64 {
    times.sort_unstable();
    times[times.len() * place / 100].as_secs_f64()
}
