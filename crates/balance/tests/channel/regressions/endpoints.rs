//! Whom calls go to.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance::{Channel, WaitForReady};
use proto::helloworld::HelloRequest;
use registry::Address;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    bound, call, client,
    peer::{Peer, greet_all, handshake},
    register, registry,
    server::Server,
    to, to_greeter, until, until_ready,
};

use super::{RETRIES, state_of};

/// Greets whoever asks, over however many connections, for as long as it is kept.
async fn mortal() -> Peer {
    Peer::start(|_, socket, address| async move {
        greet_all(handshake(socket).await, "x", address).await;
    })
    .await
}

/// An address that nobody listens at.
async fn nobody() -> Address {
    mortal().await.address.clone()
}

/// Issues 2839, 643 and 1147.
#[tokio::test]
async fn a_dead_endpoint_is_not_picked_and_burns_no_attempt() {
    let (first, second) = (Server::start().await, Server::start().await);
    let (dies, never_lived) = (mortal().await, nobody().await);
    let all = [&first.address, &second.address, &dies.address, &never_lived];
    let list: Vec<_> = all.iter().map(|address| address.as_str()).collect();
    let channel = Channel::builder(format!("static:///{}", list.join(",")))
        .service_config(RETRIES)
        .build()
        .expect("a channel");
    until_ready(&channel, 3).await;
    let dead = dies.address.clone();
    drop(dies);
    until("its death is seen", || {
        state_of(&channel, &dead) != "READY" && state_of(&channel, &never_lived) != "READY"
    })
    .await;
    for _ in 0..200 {
        let by = call(&channel, "x").await.expect("an answer");
        assert!(by == first.address.as_str() || by == second.address.as_str());
    }
    let endpoints = channel.explain().endpoints;
    let attempts: u64 = endpoints.iter().map(|endpoint| endpoint.picks).sum();
    assert_eq!(attempts, 200, "one for each call: {endpoints:?}");
}

/// tonic's `connection.rs`, where a connection's load is always 0; TrueLayer/ginepro#39.
#[tokio::test]
async fn power_of_two_choices_follows_the_load_that_there_is() {
    let (busy, free) = (Server::start().await, Server::start().await);
    let channel = Channel::builder(format!("static:///{},{}", busy.address, free.address))
        .policy("least_request")
        .build()
        .expect("a channel");
    until_ready(&channel, 2).await;
    let mut held = JoinSet::new();
    for _ in 0..10 {
        let mut client = client(&channel);
        let request = bound("forever", &busy.address);
        held.spawn(async move { client.say_hello(request).await });
    }
    until("they run", || {
        busy.seen.running.load(Ordering::SeqCst) == 10
    })
    .await;
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let channel = channel.clone();
        callers.spawn(async move {
            for _ in 0..100 {
                call(&channel, "x").await.expect("an answer");
            }
        });
    }
    callers.join_all().await;
    let calls = |server: &Server| server.seen.calls.load(Ordering::SeqCst);
    assert_eq!((calls(&busy), calls(&free)), (10, 400));
    held.abort_all();
}

/// Issue 1581.
#[tokio::test]
async fn removals_and_updates_are_applied_without_a_call() {
    let registry = registry();
    let open = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&open);
    let peer = Peer::start(move |_, socket, address| {
        let open = Arc::clone(&count);
        async move {
            open.fetch_add(1, Ordering::SeqCst);
            greet_all(handshake(socket).await, "x", address).await;
            open.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let stays = Server::start().await;
    let _stays = register(&registry, &stays.address).await;
    let leaves = register(&registry, &peer.address).await;
    let channel = to_greeter(&registry);
    until_ready(&channel, 2).await;
    assert_eq!(open.load(Ordering::SeqCst), 1);
    for update in 0..1_000 {
        let label = update.to_string();
        leaves
            .update(|instance| instance.with_label("update", label.as_str()))
            .await;
    }
    leaves.deregister().await.expect("deregistered");
    until("the removal is applied, and its connection closed", || {
        channel.explain().endpoints.len() == 1 && open.load(Ordering::SeqCst) == 0
    })
    .await;
    assert_eq!(
        channel.explain().endpoints[0].picks,
        0,
        "nobody has called yet"
    );
    assert_eq!(
        call(&channel, "x").await.expect("an answer"),
        stays.address.as_str()
    );
}

/// `influxdata/influxdb_iox`#6508.
#[tokio::test]
async fn an_endpoint_that_failed_once_comes_back_and_takes_its_share_again() {
    let (first, second) = (Server::start().await, Server::start().await);
    let channel = to(&[&first.address, &second.address]);
    until_ready(&channel, 2).await;
    let address = first.address.clone();
    first.shut_down();
    first.ended().await;
    until("its end is seen", || {
        state_of(&channel, &address) != "READY"
    })
    .await;
    for _ in 0..10 {
        call(&channel, "x").await.expect("an answer");
    }
    let back = Server::start_at(address.as_str()).await;
    until_ready(&channel, 2).await;
    let before = second.seen.calls.load(Ordering::SeqCst);
    for _ in 0..100 {
        call(&channel, "x").await.expect("an answer");
    }
    let calls = |server: &Server| server.seen.calls.load(Ordering::SeqCst);
    assert_eq!((calls(&back), calls(&second) - before), (50, 50));
}

/// tower-rs/tower#856.
#[tokio::test]
async fn after_a_removal_no_call_goes_to_a_wrong_endpoint() {
    let registry = registry();
    let mut servers = BTreeMap::new();
    let mut registrations = Vec::new();
    for _ in 0..5 {
        let server = Server::start().await;
        registrations.push((
            server.address.clone(),
            register(&registry, &server.address).await,
        ));
        servers.insert(server.address.to_string(), server);
    }
    let channel = to_greeter(&registry);
    until_ready(&channel, 5).await;
    let mut callers = JoinSet::new();
    let stop = CancellationToken::new();
    let answers: Arc<[AtomicUsize; 4]> = Arc::default();
    for caller in 0..4 {
        let (channel, stop, answers) = (channel.clone(), stop.clone(), Arc::clone(&answers));
        callers.spawn(async move {
            while !stop.is_cancelled() {
                // It compares who answered with whom the channel says it asked.
                call(&channel, "x").await.expect("an answer");
                answers[caller].fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let answered = || answers.each_ref().map(|count| count.load(Ordering::SeqCst));
    for turn in 0..20 {
        let (address, registration) = registrations.remove(turn % 5);
        registration.deregister().await.expect("deregistered");
        let id = address.to_string();
        until("it is gone", || {
            let endpoints = channel.explain().endpoints;
            endpoints.iter().all(|endpoint| endpoint.id != id)
        })
        .await;
        let server = &servers[&id];
        let before = answered();
        until("calls that had begun have ended", || {
            answered()
                .iter()
                .zip(before)
                .all(|(now, before)| *now > before)
        })
        .await;
        let calls = server.seen.calls.load(Ordering::SeqCst);
        for _ in 0..10 {
            assert_ne!(call(&channel, "x").await.expect("an answer"), id);
        }
        assert_eq!(server.seen.calls.load(Ordering::SeqCst), calls);
        registrations.insert(
            turn % 5,
            (address.clone(), register(&registry, &address).await),
        );
        until_ready(&channel, 5).await;
    }
    stop.cancel();
    callers.join_all().await;
}

/// grpc/grpc-rust's `tonic-xds`, `loadbalancer.rs`.
#[tokio::test]
async fn a_call_that_waits_for_an_endpoint_is_woken_when_there_is_one() {
    let registry = registry();
    let server = Server::start().await;
    let mut slowest = (Duration::ZERO, String::new());
    for round in 0..20 {
        let channel = to_greeter(&registry);
        let mut waiting = JoinSet::new();
        for _ in 0..10 {
            let mut client = client(&channel);
            // Without a deadline: its timer would look at the call once more, and hide that nobody has woken it.
            let mut request = tonic::Request::new(HelloRequest { name: "x".into() });
            request.extensions_mut().insert(WaitForReady(true));
            waiting.spawn(async move {
                let answer = client.say_hello(request).await;
                answer.map(|_| Instant::now())
            });
        }
        until("they wait", || {
            channel.explain().calls_in_flight == 10 && channel.explain().state != "CONNECTING"
        })
        .await;
        let came = Instant::now();
        let registration = register(&registry, &server.address).await;
        while let Some(answered) = waiting.join_next().await {
            let took = answered.expect("runs").expect("an answer") - came;
            if took > slowest.0 {
                slowest.0 = took;
                slowest.1.clear();
                write!(slowest.1, "in round {round}").expect("a string");
            }
        }
        registration.deregister().await.expect("deregistered");
    }
    let (took, round) = slowest;
    assert!(
        took < Duration::from_secs(5),
        "woken after {took:?} {round}"
    );
}
