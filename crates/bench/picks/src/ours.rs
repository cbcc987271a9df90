//! Every policy of `balance::Channel`, on a channel that is connected to all of its endpoints.

use std::{hint::black_box, time::Duration};

use balance::{Channel, ConnectivityState, HashKey, policy::CallInfo};
use criterion::{BenchmarkGroup, BenchmarkId, measurement::WallTime};
use http::HeaderMap;
use registry::{
    Address, Claim, Hold, HoldRequest, Instance, Registry, ServiceName, Store as _, Weight,
    backend::memory::MemoryStore,
};
use tokio::{
    runtime::Runtime,
    time::{Instant, sleep},
};

use crate::{Error, address, weight};

/// The policies, by the names that the channel has for them.
const POLICIES: [&str; 9] = [
    "pick_first",
    "round_robin",
    "weighted_round_robin",
    "random",
    "weighted_random",
    "least_request",
    "peak_ewma",
    "ring_hash",
    "maglev",
];

/// How long it may take to connect all endpoints.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    size: u32,
    port: u16,
    runtime: &Runtime,
) -> Result<(), Error> {
    let (registry, _holds) = runtime.block_on(register(size, port))?;
    for policy in POLICIES {
        let known = runtime.block_on(async { build(&registry, policy, size).map(drop) });
        if let Err(error) = known {
            eprintln!(
                "{policy} over {size} endpoints is left out: {}",
                reasons(&*error)
            );
            continue;
        }
        // Connected only when it is measured: a filter may leave it out.
        let mut channel = None;
        let headers = HeaderMap::new();
        let call = CallInfo::new("/helloworld.Greeter/SayHello", &headers);
        let mut number = 0_u64;
        // A call reads the clock once, for its deadline and for its latency alike.
        let now = Instant::now();
        group.bench_function(BenchmarkId::new(policy, size), |bench| {
            let channel = channel.get_or_insert_with(|| {
                let connected = runtime.block_on(connected(&registry, policy, size));
                connected.unwrap_or_else(|error| panic!("{policy}: {}", reasons(&*error)))
            });
            bench.iter(|| {
                number = number.wrapping_add(1);
                let call = call.with_hash_key(HashKey::of(number.to_le_bytes()));
                drop(black_box(channel.pick(&call, now).expect("an endpoint")));
            });
        });
    }
    Ok(())
}

async fn register(size: u32, port: u16) -> Result<(Registry, Vec<Box<dyn Hold>>), Error> {
    let store = MemoryStore::new();
    let service = ServiceName::new("greeter")?;
    let mut holds = Vec::new();
    for number in 0..size {
        let address = Address::new(&format!("{}:{port}", address(number)))?;
        let request = HoldRequest {
            instance: Instance::new(service.clone(), address)
                .with_weight(Weight::new(weight(number))?),
            ttl: Duration::from_secs(10),
            claim: Claim::First,
        };
        holds.push(store.hold(request).await?);
    }
    Ok((Registry::new(store), holds))
}

fn build(registry: &Registry, policy: &str, size: u32) -> Result<Channel, Error> {
    let builder = Channel::builder("greeter")
        .registry(registry)
        .service_config(service_config(policy, size));
    Ok(builder.build()?)
}

/// A channel with a connection to each endpoint; by `pick_first`, to one.
async fn connected(registry: &Registry, policy: &str, size: u32) -> Result<Channel, Error> {
    let channel = build(registry, policy, size)?;
    let wanted = if policy == "pick_first" {
        1
    } else {
        size as usize
    };
    let mut keys = (0_u64..).map(|number| HashKey::of(number.to_le_bytes()));
    let headers = HeaderMap::new();
    let started = Instant::now();
    loop {
        // Some policies connect those that a call is for, and no others.
        let missed = keys.by_ref().take(size as usize).filter(|key| {
            let call = CallInfo::new("/", &headers).with_hash_key(*key);
            channel.pick(&call, Instant::now()).is_none()
        });
        if missed.count() == 0 && ready(&channel) >= wanted {
            return Ok(channel);
        }
        if started.elapsed() > PATIENCE {
            let ready = ready(&channel);
            return Err(format!("only {ready} were connected within {PATIENCE:?}").into());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The error and what it comes from.
fn reasons(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn ready(channel: &Channel) -> usize {
    let endpoints = channel.explain().endpoints;
    let ready = ConnectivityState::Ready.to_string();
    endpoints.iter().filter(|e| e.state == ready).count()
}

/// A ring needs more places than endpoints to be fair: about a hundred for each.
fn service_config(policy: &str, size: u32) -> String {
    let settings = match policy {
        "ring_hash" => format!(r#"{{"minRingSize":{},"maxRingSize":8388608}}"#, size * 100),
        _ => "{}".to_owned(),
    };
    format!(r#"{{"loadBalancingConfig":[{{"{policy}":{settings}}}]}}"#)
}
