//! Where calls go while instances come and go.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use balance::Channel;
use tokio_stream::StreamExt;

use crate::{
    call, client, hello,
    peer::{Peer, greet_all, handshake},
    register, registry,
    server::Server,
    to_greeter, until, until_ready,
};

#[tokio::test]
async fn round_robin_gives_every_instance_the_same_share() {
    let registry = registry();
    let servers = [
        Server::start().await,
        Server::start().await,
        Server::start().await,
    ];
    let mut registrations = Vec::new();
    for server in &servers {
        registrations.push(register(&registry, &server.address).await);
    }
    let channel = to_greeter(&registry);
    until_ready(&channel, 3).await;
    let mut shares = BTreeMap::new();
    for _ in 0..300 {
        *shares
            .entry(call(&channel, "world").await.expect("an answer"))
            .or_insert(0) += 1;
    }
    let expected: BTreeMap<_, _> = servers
        .iter()
        .map(|server| (server.address.to_string(), 100))
        .collect();
    assert_eq!(shares, expected);
}

#[tokio::test]
async fn an_instance_that_registers_gets_calls_and_one_that_deregisters_gets_none() {
    let registry = registry();
    let (first, second) = (Server::start().await, Server::start().await);
    let one = register(&registry, &first.address).await;
    let channel = Channel::builder("memory:///greeter")
        .registry(&registry)
        .build()
        .expect("a channel");
    assert_eq!(
        call(&channel, "one").await.expect("an answer"),
        first.address.as_str()
    );
    let _two = register(&registry, &second.address).await;
    until_ready(&channel, 2).await;
    one.deregister().await.expect("deregistered");
    until("the first is gone", || {
        channel.explain().endpoints.len() == 1
    })
    .await;
    for _ in 0..10 {
        assert_eq!(
            call(&channel, "two").await.expect("an answer"),
            second.address.as_str()
        );
    }
}

#[tokio::test]
async fn an_instance_that_drains_gets_nothing_new_and_finishes_what_it_has() {
    let registry = registry();
    let (first, second) = (Server::start().await, Server::start().await);
    let one = register(&registry, &first.address).await;
    let channel = to_greeter(&registry);
    let mut stream = client(&channel)
        .say_hello_stream_reply(hello("ticks"))
        .await
        .expect("a stream")
        .into_inner();
    let _two = register(&registry, &second.address).await;
    until_ready(&channel, 2).await;
    one.drain().await;
    until("the first is gone", || {
        channel.explain().endpoints.len() == 1
    })
    .await;
    for _ in 0..10 {
        assert_eq!(
            call(&channel, "new").await.expect("an answer"),
            second.address.as_str()
        );
    }
    for _ in 0..10 {
        stream.next().await.expect("goes on").expect("goes on");
    }
}

#[tokio::test]
async fn an_update_that_leaves_nobody_keeps_those_still_connected() {
    let registry = registry();
    let server = Server::start().await;
    let registration = register(&registry, &server.address).await;
    let channel = to_greeter(&registry);
    call(&channel, "before").await.expect("an answer");
    registration.deregister().await.expect("deregistered");
    let remark = || {
        channel
            .explain()
            .endpoints
            .first()
            .and_then(|endpoint| endpoint.remark.clone())
    };
    until("the endpoint is a last resort", || {
        remark().is_some_and(|remark| remark.contains("until others come"))
    })
    .await;
    call(&channel, "after").await.expect("still an answer");
    server.shut_down();
    server.ended().await;
    until("the last resort is gone", || {
        channel.explain().endpoints.is_empty()
    })
    .await;
    let status = call(&channel, "too late")
        .await
        .expect_err("nobody is left");
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(
        status
            .message()
            .contains("no instance of greeter in memory:"),
        "{status}"
    );
}

#[tokio::test]
async fn a_last_resort_serves_until_another_instance_is_ready() {
    let registry = registry();
    let (first, second) = (Server::start().await, Server::start().await);
    let one = register(&registry, &first.address).await;
    let channel = to_greeter(&registry);
    call(&channel, "before").await.expect("an answer");
    one.deregister().await.expect("deregistered");
    let is_last_resort = || {
        channel
            .explain()
            .endpoints
            .iter()
            .any(|endpoint| endpoint.remark.is_some())
    };
    until("it is a last resort", is_last_resort).await;
    // One that cannot be reached comes first: it is no reason to let go of the one that can.
    let nobody = registry::Address::new("127.0.0.1:1").expect("an address");
    let _unreachable = register(&registry, &nobody).await;
    until("the newcomer has failed", || {
        channel
            .explain()
            .endpoints
            .iter()
            .any(|endpoint| endpoint.state == "TRANSIENT_FAILURE")
    })
    .await;
    assert_eq!(
        call(&channel, "still").await.expect("an answer"),
        first.address.as_str()
    );
    let _two = register(&registry, &second.address).await;
    until("the last resort is gone", || {
        channel
            .explain()
            .endpoints
            .iter()
            .all(|endpoint| endpoint.id != first.address.as_str())
    })
    .await;
    for _ in 0..10 {
        assert_eq!(
            call(&channel, "new").await.expect("an answer"),
            second.address.as_str()
        );
    }
}

#[tokio::test]
async fn pick_first_stays_with_one_until_it_goes() {
    let registry = registry();
    let mut servers = Vec::new();
    let mut registrations = Vec::new();
    for _ in 0..3 {
        let server = Server::start().await;
        registrations.push(register(&registry, &server.address).await);
        servers.push(server);
    }
    let channel = Channel::builder("greeter")
        .registry(&registry)
        .policy("pick_first")
        .build()
        .expect("a channel");
    let first = call(&channel, "one").await.expect("an answer");
    for _ in 0..20 {
        assert_eq!(call(&channel, "same").await.expect("an answer"), first);
    }
    let place = servers
        .iter()
        .position(|server| server.address.as_str() == first)
        .expect("one of ours");
    registrations
        .remove(place)
        .deregister()
        .await
        .expect("deregistered");
    until("it is gone", || channel.explain().endpoints.len() == 2).await;
    let next = call(&channel, "next").await.expect("an answer");
    assert_ne!(next, first);
    assert_eq!(call(&channel, "same").await.expect("an answer"), next);
}

#[tokio::test]
async fn a_list_of_addresses_needs_no_registry() {
    let (first, second) = (Server::start().await, Server::start().await);
    let target = format!("static:///{},{}", first.address, second.address);
    let channel = Channel::builder(target).build().expect("a channel");
    until_ready(&channel, 2).await;
    let mut seen = [
        call(&channel, "a").await.expect("an answer"),
        call(&channel, "b").await.expect("an answer"),
    ];
    let mut expected = [first.address.to_string(), second.address.to_string()];
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_target_that_cannot_be_found_is_refused_when_the_channel_is_built() {
    let none = Channel::builder("greeter")
        .build()
        .expect_err("no registry");
    assert!(none.to_string().contains("has no registry"), "{none}");
    let other = Channel::builder("etcd:///greeter")
        .registry(&registry())
        .build()
        .expect_err("another registry");
    assert!(other.to_string().contains("memory:"), "{other}");
    let policy = Channel::builder("greeter")
        .registry(&registry())
        .policy("best")
        .build()
        .expect_err("no such policy");
    assert!(policy.to_string().contains("round_robin"), "{policy}");
}

#[tokio::test]
async fn connections_close_when_their_endpoint_or_channel_goes() {
    let open = Arc::new(AtomicUsize::new(0));
    let mut peers = Vec::new();
    let registry = registry();
    let mut registrations = Vec::new();
    for _ in 0..2 {
        let open = Arc::clone(&open);
        let peer = Peer::start(move |_, socket, address| {
            let open = Arc::clone(&open);
            async move {
                open.fetch_add(1, Ordering::SeqCst);
                let connection = handshake(socket).await;
                greet_all(connection, "x", address).await;
                open.fetch_sub(1, Ordering::SeqCst);
            }
        })
        .await;
        registrations.push(register(&registry, &peer.address).await);
        peers.push(peer);
    }
    let channel = to_greeter(&registry);
    until_ready(&channel, 2).await;
    call(&channel, "x").await.expect("an answer");
    registrations
        .pop()
        .unwrap()
        .deregister()
        .await
        .expect("gone");
    until("one is closed", || open.load(Ordering::SeqCst) == 1).await;
    drop(channel);
    until("both are closed", || open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_service_with_a_slash_in_its_name_can_be_called() {
    Channel::builder("shop/basket")
        .registry(&registry())
        .build()
        .expect("a channel");
}
