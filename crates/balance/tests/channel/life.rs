//! What changes while a channel lives: its service config, its connections when nobody calls, its end; and what calls may
//! ask of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance::{Channel, ConnectivityState, Priority};
use registry::{Document, Instance, Registry, backend::file::FileStore};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    bound, call, client, greeter, hello, patient,
    peer::{Peer, greet_all, handshake},
    register, register_as, registry,
    server::Server,
    to, to_greeter, until, until_ready,
};

const PICK_FIRST: &str = r#"{"loadBalancingConfig":[{"pick_first":{}}],
    "methodConfig":[{"name":[{}],"timeout":"2s"}]}"#;

/// How many servers answer ten calls.
async fn answering(channel: &Channel) -> usize {
    let mut by = std::collections::BTreeSet::new();
    for _ in 0..10 {
        by.insert(call(channel, "x").await.expect("an answer"));
    }
    by.len()
}

#[tokio::test]
async fn a_service_config_of_the_registry_is_in_force_live_and_a_bad_one_leaves_the_last_good_one()
{
    let registry = registry();
    let servers = [Server::start().await, Server::start().await];
    let _registrations = [
        register(&registry, &servers[0].address).await,
        register(&registry, &servers[1].address).await,
    ];
    let channel = to_greeter(&registry);
    until_ready(&channel, 2).await;
    assert_eq!(answering(&channel).await, 2, "round robin, by default");

    let set = async |json: &str| {
        let document = Document::new(json).expect("a document");
        let set = registry.set_document(&greeter(), document).await;
        set.expect("kept");
    };
    set(PICK_FIRST).await;
    until("it is in force", || {
        channel.explain().service_config == PICK_FIRST
    })
    .await;
    until("pick_first has made its choice", || {
        let endpoints = channel.explain().endpoints;
        endpoints.iter().filter(|e| e.state == "READY").count() == 1
    })
    .await;
    let assert_in_force = async || {
        assert_eq!(answering(&channel).await, 1);
        let status = call(&channel, "forever").await.expect_err("too slow");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert_eq!(channel.explain().service_config, PICK_FIRST);
    };
    assert_in_force().await;

    let explained = channel.explain();
    assert_eq!(explained.service_config_key.as_deref(), Some("greeter"));
    assert_eq!(explained.service_config_revision, Some(1));
    assert_eq!(explained.refused_service_config, None);
    for (refused, (bad, says)) in (1..).zip([
        (
            r#"{"loadBalancingConfig":[{"best":{}}]}"#,
            "loadBalancingConfig: knows none of",
        ),
        (
            r#"{"methodConfig":[{"name":[{}],"timeout":"-1s"}]}"#,
            "methodConfig[0].timeout: ",
        ),
        ("not JSON", "service config: "),
    ]) {
        set(bad).await;
        let now = || channel.explain().refused_service_config;
        let is_refused = || now().is_some_and(|now| now.error.starts_with(says));
        until("it is refused", is_refused).await;
        let before = now().expect("it is refused");
        assert_eq!(before.key.as_deref(), Some("greeter"));
        assert_eq!(before.revision, Some(1 + refused));
        let goes_on = || now().is_some_and(|now| now.for_ms > before.for_ms);
        until("it goes on to be refused", goes_on).await;
        assert_in_force().await;
        let explained = channel.explain();
        assert_eq!(explained.service_config_revision, Some(1));
        assert_eq!(explained.refused_service_configs, refused);
    }
    set(PICK_FIRST).await;
    let is_good = || channel.explain().refused_service_config.is_none();
    until("nothing is refused any more", is_good).await;
    assert_eq!(channel.explain().service_config_revision, Some(5));
    set("not JSON").await;
    until("it is refused again", || !is_good()).await;

    registry.delete_document(&greeter()).await.expect("deleted");
    until("the channel's own is in force again", || {
        channel.explain().service_config == "{}"
    })
    .await;
    let explained = channel.explain();
    assert_eq!(explained.refused_service_config, None);
    assert_eq!(explained.service_config_revision, None);
    until_ready(&channel, 2).await;
    assert_eq!(answering(&channel).await, 2);
}

#[tokio::test]
async fn what_is_no_text_is_refused_as_a_service_config() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("_service_config");
    std::fs::create_dir(&directory).expect("a directory");
    std::fs::write(directory.join("greeter.json"), b"{}\xff").expect("a file");
    let registry = Registry::new(FileStore::open(root.path()).expect("a registry"));
    let channel = to_greeter(&registry);
    let refused = || channel.explain().refused_service_config;
    until("it is refused", || refused().is_some()).await;
    let error = refused().expect("it is refused").error;
    assert!(error.contains("UTF-8"), "{error}");
    assert_eq!(channel.explain().refused_service_configs, 1);
    let good = Document::new(PICK_FIRST).expect("a document");
    let set = registry.set_document(&greeter(), good).await;
    set.expect("kept");
    let in_force = || channel.explain().service_config == PICK_FIRST;
    until("the good one is in force", in_force).await;
    assert_eq!(refused(), None);
}

/// Open: the call takes the config that is in force when it begins, and the registry's has not been read by then.
#[tokio::test]
async fn a_service_config_that_is_there_first_holds_for_the_first_call() {
    let registry = registry();
    let document = Document::new(PICK_FIRST).expect("a document");
    let set = registry.set_document(&greeter(), document).await;
    set.expect("kept");
    let server = Server::start().await;
    let _registration = register(&registry, &server.address).await;
    let channel = to_greeter(&registry);
    let started = tokio::time::Instant::now();
    let mut request = hello("forever");
    request.set_timeout(Duration::from_secs(30));
    let status = client(&channel)
        .say_hello(request)
        .await
        .expect_err("too slow");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}: the timeout of the registry's config did not count",
        started.elapsed()
    );
}

/// A peer that greets, and how many connections it has now.
async fn counting() -> (Peer, Arc<AtomicUsize>) {
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
    (peer, open)
}

#[tokio::test]
async fn a_channel_that_closes_finishes_what_it_has_and_takes_nothing_new() {
    let server = Server::start().await;
    let (peer, open) = counting().await;
    let channel = to(&[&server.address, &peer.address]);
    until_ready(&channel, 2).await;
    let mut stream = client(&channel)
        .say_hello_stream_reply(bound("ticks", &server.address))
        .await
        .expect("a stream")
        .into_inner();
    let closing = tokio::spawn({
        let channel = channel.clone();
        async move { channel.close().await }
    });
    let state = channel
        .wait_for_state_change(ConnectivityState::Ready)
        .await;
    assert_eq!(state, ConnectivityState::Shutdown);
    for request in [hello("new"), patient("new")] {
        let status = client(&channel)
            .say_hello(request)
            .await
            .expect_err("it closes");
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("closed"), "{status}");
    }
    for _ in 0..10 {
        stream.next().await.expect("goes on").expect("goes on");
    }
    assert!(!closing.is_finished(), "a call is still under way");
    drop(stream);
    closing.await.expect("closed");
    until("the connections are closed", || {
        open.load(Ordering::SeqCst) == 0
    })
    .await;
    // A second time it is closed already.
    channel.close().await;
}

#[tokio::test]
async fn a_channel_that_nobody_calls_lets_its_connections_go_and_the_next_call_connects_again() {
    let (peer, open) = counting().await;
    let channel = Channel::builder(format!("static:///{}", peer.address))
        .idle_timeout(Duration::from_millis(100))
        .build()
        .expect("a channel");
    for _ in 0..3 {
        call(&channel, "x").await.expect("an answer");
        assert_eq!(open.load(Ordering::SeqCst), 1);
        until("it is idle", || {
            channel.state() == ConnectivityState::Idle && open.load(Ordering::SeqCst) == 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_channel_that_is_idle_sleeps() {
    let (peer, _open) = counting().await;
    let channel = Channel::builder(format!("static:///{}", peer.address))
        .idle_timeout(Duration::from_millis(100))
        .build()
        .expect("a channel");
    call(&channel, "x").await.expect("an answer");
    let is_idle = || channel.explain().endpoints[0].state == "IDLE";
    until("it is idle", is_idle).await;
    let before = channel.explain().rebuilds;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(5)).await;
    tokio::time::resume();
    let rebuilds = channel.explain().rebuilds - before;
    // What the end of the connection brings, and the turn of each ten seconds.
    assert!(rebuilds <= 3, "{rebuilds} in five seconds");
}

#[tokio::test]
async fn a_channel_with_a_call_under_way_is_not_idle() {
    let server = Server::start().await;
    let channel = Channel::builder(format!("static:///{}", server.address))
        .idle_timeout(Duration::from_millis(50))
        .build()
        .expect("a channel");
    let mut stream = client(&channel)
        .say_hello_stream_reply(hello("ticks"))
        .await
        .expect("a stream")
        .into_inner();
    let started = tokio::time::Instant::now();
    while started.elapsed() < Duration::from_millis(300) {
        stream.next().await.expect("goes on").expect("goes on");
        assert_ne!(channel.state(), ConnectivityState::Idle);
    }
    drop(stream);
    until("it is idle", || channel.state() == ConnectivityState::Idle).await;
}

#[tokio::test]
async fn calls_above_the_budget_are_refused_by_priority_and_say_so_to_programs() {
    let server = Server::start().await;
    let channel = Channel::builder(format!("static:///{}", server.address))
        .max_calls_in_flight(10)
        .build()
        .expect("a channel");
    let prioritized = |name: &str, priority: Priority| {
        let mut request = hello(name);
        request.extensions_mut().insert(priority);
        request
    };
    let mut held = JoinSet::new();
    // Each fills what its priority may, on top of those before.
    for (priority, share) in [
        (Priority::Low, 5),
        (Priority::Normal, 9),
        (Priority::High, 10),
    ] {
        while held.len() < share {
            let mut client = client(&channel);
            let request = prioritized("forever", priority);
            held.spawn(async move { client.say_hello(request).await });
        }
        until("they run", || {
            server.seen.running.load(Ordering::SeqCst) == share
        })
        .await;
        let status = client(&channel)
            .say_hello(prioritized("one more", priority))
            .await
            .expect_err("above its share");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.reason, "CALLS_IN_FLIGHT_EXHAUSTED");
        assert_eq!(info.metadata["budget"], "10");
        assert_eq!(info.metadata["share"], share.to_string());
    }
    held.abort_all();
    until("they have ended", || channel.explain().calls_in_flight == 0).await;
    client(&channel)
        .say_hello(prioritized("room again", Priority::Low))
        .await
        .expect("an answer");
}

#[tokio::test]
async fn a_call_with_an_affinity_goes_to_its_instance_and_to_another_when_that_is_gone() {
    let registry = registry();
    let servers = [Server::start().await, Server::start().await];
    let own = register(&registry, &servers[0].address).await;
    let _other = register(&registry, &servers[1].address).await;
    let channel = to_greeter(&registry);
    until_ready(&channel, 2).await;
    let by = async || {
        let request = bound("x", &servers[0].address);
        let answer = client(&channel).say_hello(request).await;
        answer.expect("an answer").into_inner().message
    };
    for _ in 0..20 {
        assert!(by().await.contains(servers[0].address.as_str()));
    }
    own.deregister().await.expect("deregistered");
    until("it is gone", || channel.explain().endpoints.len() == 1).await;
    for _ in 0..20 {
        assert!(by().await.contains(servers[1].address.as_str()));
    }
}

#[tokio::test]
async fn a_target_selects_among_instances_by_what_they_say_of_themselves_now() {
    let registry = registry();
    let servers = [Server::start().await, Server::start().await];
    let instance = |server: &Server| Instance::new(greeter(), server.address.clone());
    let first = instance(&servers[0]).with_version("v1");
    let first = register_as(&registry, first).await;
    let second = instance(&servers[1]).with_version("v2");
    let second = second.with_label("tier", "gold");
    let _second = register_as(&registry, second).await;
    let of = |target: &str| {
        let builder = Channel::builder(target).registry(&registry);
        builder.build().expect("a channel")
    };
    for target in ["greeter?version=v2", "memory:///greeter?label.tier=gold"] {
        let channel = of(target);
        for _ in 0..10 {
            let by = call(&channel, "x").await.expect("an answer");
            assert_eq!(by, servers[1].address.as_str(), "{target}");
        }
    }
    let nobody = of("greeter?version=v3");
    let status = call(&nobody, "x").await.expect_err("nobody is of v3");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().contains("none of the 2 instances"),
        "{status}"
    );
    let channel = of("greeter?version=v2");
    until_ready(&channel, 1).await;
    first.update(|instance| instance.with_version("v2")).await;
    until_ready(&channel, 2).await;
    assert_eq!(answering(&channel).await, 2);
}
