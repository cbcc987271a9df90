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

/// What is measured, by the policies' names and by whether endpoints have weights that differ: pingora's have, and they make
/// a choice harder.
const PICKS: [(&str, &str, Weights); 10] = [
    ("pick_first", "pick_first", Weights::Differ),
    ("round_robin", "round_robin", Weights::Differ),
    (
        "weighted_round_robin",
        "weighted_round_robin",
        Weights::Differ,
    ),
    ("random", "random", Weights::Differ),
    ("weighted_random", "weighted_random", Weights::Differ),
    ("least_request", "least_request", Weights::Alike),
    ("least_request, by weight", "least_request", Weights::Differ),
    ("peak_ewma", "peak_ewma", Weights::Differ),
    ("ring_hash", "ring_hash", Weights::Differ),
    ("maglev", "maglev", Weights::Differ),
];

/// What the endpoints weigh.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weights {
    /// The same, as is the default.
    Alike,
    /// 1 to 10.
    Differ,
}

impl Weights {
    fn of(self, number: u32) -> Result<Weight, Error> {
        Ok(match self {
            Self::Alike => Weight::default(),
            Self::Differ => Weight::new(weight(number))?,
        })
    }
}

/// How long it may take to connect all endpoints.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    size: u32,
    port: u16,
    runtime: &Runtime,
) {
    for (name, policy, weights) in PICKS {
        // Made only when it is measured: a filter may leave it out.
        let mut made = None;
        let headers = HeaderMap::new();
        let call = CallInfo::new("/helloworld.Greeter/SayHello", &headers);
        let mut number = 0_u64;
        // A call reads the clock once, for its deadline and for its latency alike.
        let now = Instant::now();
        group.bench_function(BenchmarkId::new(name, size), |bench| {
            let (channel, ..) = made.get_or_insert_with(|| {
                let fleet = async {
                    let (registry, holds) = register(size, port, weights).await?;
                    let channel = connected(&registry, policy, size).await?;
                    Ok::<_, Error>((channel, registry, holds))
                };
                let made = runtime.block_on(fleet);
                made.unwrap_or_else(|error| panic!("{policy}: {}", reasons(&*error)))
            });
            bench.iter(|| {
                number = number.wrapping_add(1);
                let call = call.with_hash_key(HashKey::of(number.to_le_bytes()));
                drop(black_box(channel.pick(&call, now).expect("an endpoint")));
            });
        });
    }
}

async fn register(
    size: u32,
    port: u16,
    weights: Weights,
) -> Result<(Registry, Vec<Box<dyn Hold>>), Error> {
    let store = MemoryStore::new();
    let service = ServiceName::new("greeter")?;
    let mut holds = Vec::new();
    for number in 0..size {
        let address = Address::new(&format!("{}:{port}", address(number)))?;
        let request = HoldRequest {
            instance: Instance::new(service.clone(), address).with_weight(weights.of(number)?),
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
