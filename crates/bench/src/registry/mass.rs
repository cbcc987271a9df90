//! How fast very many registrations are made.

use std::time::Duration;

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use registry::{Address, Instance, Registration, RegistrationState, ServiceName};
use testkit::etcd::Cluster;
use tokio::time::{Instant, timeout};

use super::keys::{Keys, instance};
use crate::{
    table::{Table, grouped},
    turns::median,
};

const TTL: Duration = Duration::from_mins(1);
const BOUND: Duration = Duration::from_mins(2);
/// How many puts the bare client has on their way at once: as many as the registry's.
const UNDER_WAY: usize = 256;

pub(super) async fn row(
    cluster: &Cluster,
    keys: &Keys,
    count: u32,
    rounds: u32,
    table: &mut Table,
) -> Result<()> {
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let took = puts(keys, round, count).await?;
        bare.push(f64::from(count) / took.as_secs_f64());
        let took = registrations(cluster, round, count).await?;
        ours.push(f64::from(count) / took.as_secs_f64());
    }
    let (bare, ours) = (median(&bare, |f| *f), median(&ours, |f| *f));
    table.row([
        format!(
            "registrations a second, of {} at once",
            grouped(f64::from(count))
        ),
        grouped(bare),
        grouped(ours),
        format!("{:.2}", ours / bare),
    ]);
    Ok(())
}

async fn puts(keys: &Keys, round: u32, count: u32) -> Result<Duration> {
    let service = format!("puts-{round}");
    let began = Instant::now();
    let puts = (0..count).map(|number| {
        let (key, value) = instance(&service, number, 1);
        keys.put_without_lease(key, value)
    });
    stream::iter(puts)
        .buffer_unordered(UNDER_WAY)
        .try_collect::<Vec<_>>()
        .await?;
    Ok(began.elapsed())
}

async fn registrations(cluster: &Cluster, round: u32, count: u32) -> Result<Duration> {
    let registry = registry::connect(&cluster.url(&format!("mass-{round}")))?;
    let service = ServiceName::new("mass")?;
    let began = Instant::now();
    let mut all: Vec<Registration> = Vec::new();
    for number in 0..count {
        let [_, a, b, c] = number.to_be_bytes();
        let address = Address::new(&format!("10.{a}.{b}.{c}:50051"))?;
        all.push(registry.register(Instance::new(service.clone(), address), TTL));
    }
    let held = join_all(all.iter().map(|registration| async {
        let mut states = registration.states();
        // It ends with its registration.
        let _ = states.wait_for(RegistrationState::is_held).await;
    }));
    timeout(BOUND, held).await?;
    let took = began.elapsed();
    let left =
        stream::iter(all.into_iter().map(Registration::deregister)).buffer_unordered(UNDER_WAY);
    left.try_collect::<Vec<_>>().await?;
    Ok(took)
}
