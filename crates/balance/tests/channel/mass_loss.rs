//! When a registry drops many instances at once that are connected still.

use std::{
    future::{pending, poll_fn},
    sync::Arc,
    time::Duration,
};

use balance::Channel;
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream::{self, BoxStream},
};
use registry::{
    Address, Change, Hold, HoldRequest, Instance, Registry, Revision, ServiceName, Snapshot, Store,
    StoreError, Update,
};
use tokio::sync::{Notify, watch};
use tonic::Code;
use tonic_health::ServingStatus::{NotServing, Serving};

use crate::{
    bound, call, client, greeter, hello, patient,
    peer::{Peer, greet, handshake},
    server::Server,
    until, until_ready,
};

type Instances = Vec<Arc<Instance>>;

/// A registry that says what it is told to, each time all at once.
#[derive(Debug)]
struct Told(watch::Receiver<Instances>);

fn change(revision: u64, all: &Instances) -> Change {
    Change {
        revision: Revision(revision),
        updates: vec![Update::Reset(all.clone())],
    }
}

impl Store for Told {
    fn url(&self) -> &'static str {
        "memory:told"
    }

    fn hold(&self, _: HoldRequest) -> BoxFuture<'_, Result<Box<dyn Hold>, StoreError>> {
        pending().boxed()
    }

    fn list<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
        let snapshot = Snapshot::empty(service.clone());
        ready(Ok(snapshot.apply(change(1, &self.0.borrow())))).boxed()
    }

    fn watch(&self, _: &ServiceName) -> BoxStream<'static, Result<Change, StoreError>> {
        let mut told = self.0.clone();
        told.mark_changed();
        stream::unfold((told, 1), |(mut told, revision)| async move {
            told.changed().await.ok()?;
            let change = change(revision, &told.borrow_and_update());
            Some((Ok(change), (told, revision + 1)))
        })
        .boxed()
    }

    fn services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>> {
        ready(Ok(vec![greeter()])).boxed()
    }
}

/// Some servers, and the registry that says which of them are there.
struct Fleet {
    servers: Vec<Server>,
    listed: watch::Sender<Instances>,
    registry: Registry,
}

impl Fleet {
    async fn start(size: usize) -> Self {
        let (listed, told) = watch::channel(Instances::new());
        let mut fleet = Self {
            servers: Vec::new(),
            listed,
            registry: Registry::new(Told(told)),
        };
        for _ in 0..size {
            fleet.servers.push(Server::start().await);
        }
        fleet
    }

    fn lists(&self, servers: std::ops::Range<usize>) {
        let instance = |s: &Server| Arc::new(Instance::new(greeter(), s.address.clone()));
        let instances = self.servers[servers].iter().map(instance);
        self.listed.send_replace(instances.collect());
    }

    fn comes(&self, server: usize) {
        let instance = Arc::new(Instance::new(greeter(), self.address(server).clone()));
        self.listed.send_modify(|all| all.push(instance));
    }

    fn address(&self, server: usize) -> &Address {
        &self.servers[server].address
    }

    fn channel(&self, hold_for: &str) -> Channel {
        self.channel_with(hold_for, r#""methodConfig":[]"#)
    }

    /// The same with more in its service config.
    fn channel_with(&self, hold_for: &str, more: &str) -> Channel {
        let json = format!(
            r#"{{"loadBalancingConfig":[{{"mass_loss_protection":{{"holdFor":"{hold_for}","childPolicy":[{{"round_robin":{{}}}}]}}}}],{more}}}"#
        );
        Channel::builder("greeter")
            .registry(&self.registry)
            .service_config(json)
            .build()
            .expect("a channel")
    }
}

fn held(channel: &Channel) -> usize {
    let endpoints = channel.explain().endpoints;
    let held = endpoints.iter().filter(|endpoint| {
        let remark = endpoint.remark.as_deref().unwrap_or_default();
        remark.contains("until others come")
    });
    held.count()
}

/// Whether there are so many endpoints, all of them connected.
fn are_ready(channel: &Channel, count: usize) -> bool {
    let endpoints = channel.explain().endpoints;
    endpoints.len() == count && endpoints.iter().all(|endpoint| endpoint.state == "READY")
}

async fn answering(channel: &Channel) -> usize {
    let mut by = std::collections::BTreeSet::new();
    for _ in 0..20 {
        by.insert(call(channel, "x").await.expect("an answer"));
    }
    by.len()
}

#[tokio::test]
async fn instances_that_are_dropped_with_most_others_serve_on_until_others_come() {
    let fleet = Fleet::start(7).await;
    fleet.lists(0..5);
    let channel = fleet.channel("3600s");
    until_ready(&channel, 5).await;
    fleet.lists(0..1);
    until("they are held on to", || held(&channel) == 4).await;
    assert_eq!(answering(&channel).await, 5);
    // One that dies while it is held on to is let go.
    fleet.servers[4].shut_down();
    until("it is gone", || held(&channel) == 3).await;
    assert_eq!(answering(&channel).await, 4);
    // Two of five are less than half, with which the others are needed still.
    fleet.comes(5);
    until("one more is there", || are_ready(&channel, 5)).await;
    assert_eq!((held(&channel), answering(&channel).await), (3, 5));
    fleet.comes(6);
    until("the others are let go", || {
        channel.explain().endpoints.len() == 3
    })
    .await;
    assert_eq!(answering(&channel).await, 3);
}

#[tokio::test]
async fn as_many_serve_on_when_two_of_three_are_dropped() {
    let fleet = Fleet::start(3).await;
    fleet.lists(0..3);
    let channel = fleet.channel("3600s");
    until_ready(&channel, 3).await;
    fleet.lists(0..1);
    until("they are held on to", || held(&channel) == 2).await;
    assert_eq!(answering(&channel).await, 3);
    // Who is bound to one of them stays with it.
    for _ in 0..10 {
        let answer = client(&channel)
            .say_hello(bound("x", fleet.address(2)))
            .await;
        let message = answer.expect("an answer").into_inner().message;
        assert!(message.contains(fleet.address(2).as_str()), "{message}");
    }
}

/// As when leases end after one another.
#[tokio::test]
async fn instances_that_are_dropped_one_by_one_serve_on_once_they_are_most() {
    let fleet = Fleet::start(6).await;
    fleet.lists(0..6);
    let channel = fleet.channel("3600s");
    until_ready(&channel, 6).await;
    for left in (0..6).rev() {
        fleet.lists(0..left);
        let kept = left.max(3);
        until("it is seen", || {
            channel.explain().endpoints.len() == kept && held(&channel) == kept - left
        })
        .await;
    }
    assert_eq!(answering(&channel).await, 3);
}

#[tokio::test]
async fn others_that_are_unhealthy_are_nobody_to_let_the_dropped_go_for() {
    const NAME: &str = "helloworld.Greeter";
    let fleet = Fleet::start(3).await;
    let says = [Serving, Serving, NotServing];
    for (server, says) in fleet.servers.iter().zip(says) {
        server.health.set_service_status(NAME, says).await;
    }
    fleet.lists(0..2);
    let asking = r#""healthCheckConfig":{"serviceName":"helloworld.Greeter"}"#;
    let channel = fleet.channel_with("3600s", asking);
    until_ready(&channel, 2).await;
    fleet.lists(2..3);
    until("it says that it is not serving", || {
        let endpoints = channel.explain().endpoints;
        let mut remarks = endpoints.iter().filter_map(|e| e.remark.as_deref());
        remarks.any(|remark| remark.contains("NOT_SERVING"))
    })
    .await;
    assert_eq!((held(&channel), answering(&channel).await), (2, 2));
    let other = &fleet.servers[2].health;
    other.set_service_status(NAME, Serving).await;
    until("they are let go", || are_ready(&channel, 1)).await;
}

#[tokio::test]
async fn who_drains_is_called_on_only_when_nobody_else_is_there() {
    let fleet = Fleet::start(3).await;
    fleet.lists(0..3);
    let channel = fleet.channel("3600s");
    until_ready(&channel, 3).await;
    let draining = |server| {
        let instance = Instance::new(greeter(), fleet.address(server).clone());
        Arc::new(instance.with_status(registry::Status::Draining))
    };
    let ids = || {
        let endpoints = channel.explain().endpoints;
        endpoints.into_iter().map(|e| e.id).collect::<Vec<_>>()
    };
    // Two are lost, and serve on: the third is believed.
    fleet.lists(0..1);
    until("they are held on to", || held(&channel) == 2).await;
    fleet.listed.send_replace(vec![draining(0)]);
    until("it is let go", || {
        !ids().contains(&fleet.address(0).to_string())
    })
    .await;
    assert_eq!(held(&channel), 2);
    // They are back, and drain both.
    fleet.lists(1..3);
    until("they are back", || held(&channel) == 0).await;
    fleet.listed.send_replace(vec![draining(1), draining(2)]);
    let remarks = || {
        let endpoints = channel.explain().endpoints;
        endpoints
            .into_iter()
            .filter_map(|e| e.remark)
            .collect::<Vec<_>>()
    };
    let said = "drains; picked because nobody else is left";
    until("they are called on", || remarks() == [said, said]).await;
    fleet.listed.send_replace(Vec::new());
    assert_eq!(answering(&channel).await, 2);
    // The first other one is enough.
    fleet.lists(0..1);
    until("they are let go", || {
        ids() == [fleet.address(0).to_string()]
    })
    .await;
}

#[tokio::test]
async fn who_is_not_serving_is_believed_though_nobody_else_is_there() {
    let fleet = Fleet::start(1).await;
    fleet.lists(0..1);
    let channel = fleet.channel("3600s");
    until_ready(&channel, 1).await;
    let instance = Instance::new(greeter(), fleet.address(0).clone());
    let instance = instance.with_status(registry::Status::NotServing);
    fleet.listed.send_replace(vec![Arc::new(instance)]);
    until("it is let go", || channel.explain().endpoints.is_empty()).await;
}

/// Greets, except between two notifications: there it does nothing at all.
async fn pausing(pause: &Arc<Notify>) -> Peer {
    let pause = Arc::clone(pause);
    Peer::start(move |_, socket, address| {
        let pause = Arc::clone(&pause);
        async move {
            let mut connection = handshake(socket).await;
            loop {
                tokio::select! {
                    () = pause.notified() => pause.notified().await,
                    call = connection.accept() => match call {
                        Some(Ok((_request, mut respond))) => {
                            let given_up = poll_fn(|cx| respond.poll_reset(cx)).now_or_never();
                            if given_up.is_none() {
                                greet(respond, "x", &address);
                            }
                        }
                        _ => break,
                    },
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_last_resort_that_is_silent_for_longer_than_a_caller_waits_stays_one() {
    let pause = Arc::new(Notify::new());
    let peer = pausing(&pause).await;
    let fleet = Fleet::start(0).await;
    let instance = Instance::new(greeter(), peer.address.clone());
    fleet.listed.send_replace(vec![Arc::new(instance)]);
    let channel = fleet.channel("3600s");
    until_ready(&channel, 1).await;
    fleet.listed.send_replace(Vec::new());
    let remark = || channel.explain().endpoints.first()?.remark.clone();
    until("it is the last resort", || {
        remark().is_some_and(|remark| remark.contains("until others come"))
    })
    .await;
    pause.notify_one();
    tokio::task::yield_now().await;
    let mut impatient = hello("x");
    impatient.set_timeout(Duration::from_millis(20));
    let status = client(&channel).say_hello(impatient).await;
    let status = status.expect_err("it is silent");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    // Something that brings another picker, and nobody who takes calls.
    let before = channel.explain().rebuilds;
    let elsewhere = Instance::new(greeter(), Address::new("127.0.0.1:1").expect("an address"));
    let elsewhere = elsewhere.with_status(registry::Status::Draining);
    fleet.listed.send_replace(vec![Arc::new(elsewhere)]);
    until("there is another picker", || {
        channel.explain().rebuilds > before
    })
    .await;
    pause.notify_one();
    let answer = client(&channel).say_hello(patient("x")).await;
    answer.expect("it is there again");
}

#[tokio::test]
async fn instances_that_are_dropped_with_most_others_are_let_go_after_a_while() {
    let fleet = Fleet::start(5).await;
    fleet.lists(0..5);
    let channel = fleet.channel("3s");
    until_ready(&channel, 5).await;
    fleet.lists(0..1);
    until("they are held on to", || held(&channel) == 4).await;
    until("they are let go", || channel.explain().endpoints.len() == 1).await;
    assert_eq!(answering(&channel).await, 1);
}

#[tokio::test]
async fn the_last_instances_that_are_dropped_are_let_go_after_a_while() {
    let fleet = Fleet::start(2).await;
    fleet.lists(0..2);
    let channel = fleet.channel("3s");
    until_ready(&channel, 2).await;
    fleet.lists(0..0);
    until("they are held on to", || held(&channel) == 2).await;
    assert_eq!(answering(&channel).await, 2);
    until("they are let go", || channel.explain().endpoints.is_empty()).await;
    let status = call(&channel, "x").await.expect_err("nobody is there");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn an_instance_that_drains_is_let_go_though_many_others_are_dropped_with_it() {
    let fleet = Fleet::start(5).await;
    fleet.lists(0..5);
    let channel = fleet.channel("3600s");
    until_ready(&channel, 5).await;
    let instance = |server| Instance::new(greeter(), fleet.address(server).clone());
    let draining = instance(1).with_status(registry::Status::Draining);
    fleet
        .listed
        .send_replace(vec![Arc::new(instance(0)), Arc::new(draining)]);
    until("the others are held on to", || held(&channel) == 3).await;
    let id = fleet.address(1).as_str();
    let endpoints = channel.explain().endpoints;
    assert!(endpoints.iter().all(|e| e.id != id), "{endpoints:?}");
}

#[tokio::test]
async fn a_few_instances_that_are_dropped_are_let_go_at_once() {
    let fleet = Fleet::start(5).await;
    fleet.lists(0..5);
    let channel = fleet.channel("3600s");
    until_ready(&channel, 5).await;
    fleet.lists(0..3);
    until("they are gone", || channel.explain().endpoints.len() == 3).await;
    assert_eq!(held(&channel), 0);
    assert_eq!(answering(&channel).await, 3);
}
