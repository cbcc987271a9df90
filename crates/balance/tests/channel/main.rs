//! The channel against real servers on real sockets, and against peers that do what real servers do not.

mod addresses;
mod ages;
mod answers;
mod balancing;
mod calls;
mod committing;
mod departures;
mod ejection;
mod explains;
mod faults;
mod frames;
mod hangs;
mod health;
mod hedging;
#[cfg(feature = "tls")]
mod identity;
mod life;
mod load_reports;
mod mass_loss;
mod measures;
mod messages;
mod metadata;
mod peer;
mod policies;
mod readiness;
mod regressions;
mod replay;
mod retries;
mod rubbish;
mod scaling;
mod server;
mod streams;
#[cfg(feature = "tls")]
mod tls;
mod traces;
mod unix;

use std::time::Duration;

use balance::{Affinity, Channel, ServedBy, TellServedBy, WaitForReady};
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use registry::{
    Address, Instance, InstanceId, Registration, Registry, ServiceName,
    backend::memory::MemoryStore,
};
use tonic::{Request, Status};

/// No wait in these tests is longer than this.
const BOUND: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(10);

/// Between two looks at whatever is waited for.
const LOOK: Duration = Duration::from_millis(2);

/// A picker follows what it is made of within this time.
const REBUILD_INTERVAL: Duration = Duration::from_millis(10);

/// A registry of the test's own.
fn registry() -> Registry {
    Registry::new(MemoryStore::new())
}

fn greeter() -> ServiceName {
    ServiceName::new("greeter").expect("a name")
}

/// Registers the greeter at `address` as a process of its own would.
async fn register(registry: &Registry, address: &Address) -> Registration {
    register_as(registry, Instance::new(greeter(), address.clone())).await
}

async fn register_as(registry: &Registry, instance: Instance) -> Registration {
    let registration = registry.register(instance, TTL);
    let mut states = registration.states();
    let held = states.wait_for(|state| matches!(state, registry::RegistrationState::Held { .. }));
    held.await.expect("the registration lives");
    registration
}

/// A channel to these addresses and no others.
fn to(peers: &[&Address]) -> Channel {
    to_with(peers, "{}")
}

/// The same with a service config.
fn to_with(peers: &[&Address], config: &str) -> Channel {
    let list: Vec<_> = peers.iter().map(|address| address.as_str()).collect();
    Channel::builder(format!("static:///{}", list.join(",")))
        .service_config(config)
        .build()
        .expect("a channel")
}

/// A channel to the greeter, by the default policy.
fn to_greeter(registry: &Registry) -> Channel {
    Channel::builder("greeter")
        .registry(registry)
        .build()
        .expect("a channel")
}

fn client(channel: &Channel) -> GreeterClient<Channel> {
    GreeterClient::new(channel.clone())
}

fn hello(name: &str) -> Request<HelloRequest> {
    let mut request = Request::new(HelloRequest { name: name.into() });
    request.set_timeout(BOUND);
    request
}

/// The same of a caller that waits for an instance.
fn patient(name: &str) -> Request<HelloRequest> {
    let mut request = hello(name);
    request.extensions_mut().insert(WaitForReady(true));
    request
}

/// The same for that address, if it can be had.
fn bound(name: &str, to: &Address) -> Request<HelloRequest> {
    let mut request = hello(name);
    let to = Affinity(InstanceId::from(to));
    request.extensions_mut().insert(to);
    request
}

/// The address of the server that answers one call.
async fn call(channel: &Channel, name: &str) -> Result<String, Status> {
    let mut request = hello(name);
    request.extensions_mut().insert(TellServedBy);
    let response = client(channel).say_hello(request).await?;
    let by = response
        .extensions()
        .get::<ServedBy>()
        .expect("an instance answered")
        .address()
        .to_string();
    assert_eq!(
        response.into_inner().message,
        format!("Hello {name} from {by}")
    );
    Ok(by)
}

/// Waits until `holds` does; the one place of these tests that waits.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(BOUND, async {
        while !holds() {
            tokio::time::sleep(LOOK).await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("waited {BOUND:?} in vain until {what}"));
}

/// Waits until the channel has `count` endpoints that are ready, and picks among them.
async fn until_ready(channel: &Channel, count: usize) {
    let ready = || {
        channel
            .explain()
            .endpoints
            .iter()
            .filter(|e| e.state == "READY" && e.remark.is_none())
            .count()
    };
    until(&format!("{count} endpoints are ready"), || ready() == count).await;
    // Counted and not timed: whoever was held up between two looks has seen no more than at one.
    let looks = 2 * REBUILD_INTERVAL.as_micros() / LOOK.as_micros();
    let (mut seen, mut quiet) = (0, 0);
    until("the picker has followed", || {
        let before = std::mem::replace(&mut seen, channel.explain().rebuilds);
        quiet = if seen == before { quiet + 1 } else { 0 };
        quiet > looks
    })
    .await;
}
