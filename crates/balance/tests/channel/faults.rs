//! Peers that misbehave, and servers that die.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance::ConnectivityState;
use tokio::{io::AsyncWriteExt, sync::Notify, task::JoinSet, time::Instant};
use tonic::Code;

use crate::{
    bound, call, client, hello,
    peer::{Peer, go_away_unprocessed, greet, greet_all, handshake, hang},
    register, registry,
    server::Server,
    to, to_greeter, to_with, until, until_ready,
};

#[tokio::test]
async fn a_server_that_hangs_after_accepting_is_never_ready() {
    let hung = Peer::start(|_, socket, _| hang(socket)).await;
    let server = Server::start().await;
    let channel = to(&[&hung.address, &server.address]);
    for _ in 0..20 {
        assert_eq!(
            call(&channel, "alive").await.expect("an answer"),
            server.address.as_str()
        );
    }
    let explanation = channel.explain();
    let endpoint = explanation
        .endpoints
        .iter()
        .find(|e| e.id == hung.address.as_str())
        .expect("an endpoint");
    assert_eq!(endpoint.state, "CONNECTING");
}

#[tokio::test]
async fn a_server_that_greets_and_hangs_up_is_not_connected_without_a_pause() {
    let connected = Arc::<Mutex<Vec<Instant>>>::default();
    let note = Arc::clone(&connected);
    let peer = Peer::start(move |_, socket, _| {
        note.lock().expect("nobody panics").push(Instant::now());
        async move {
            // Long enough to be READY.
            let mut connection = handshake(socket).await;
            let _ = tokio::time::timeout(Duration::from_millis(20), connection.accept()).await;
        }
    })
    .await;
    let channel = to(&[&peer.address]);
    let times = || connected.lock().expect("nobody panics").clone();
    let is_failing = || channel.explain().endpoints[0].state == "TRANSIENT_FAILURE";
    until("it waits", || times().len() == 2 && is_failing()).await;
    let status = call(&channel, "hello").await.expect_err("nobody is there");
    assert_eq!(status.code(), Code::Unavailable);
    let why = "connections end as soon as they are made";
    assert!(status.message().contains(why), "{status}");
    // One, the one after it that is forgiven, and then a wait of about 1.6 seconds.
    until("it is connected again", || times().len() == 3).await;
    let pause = times()[2] - times()[1];
    assert!(pause >= Duration::from_secs(1), "{pause:?}");
}

#[tokio::test]
async fn a_server_that_speaks_no_http2_fails_calls_with_its_address() {
    let peer = Peer::start(|_, mut socket, _| async move {
        let _ = socket
            .write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n rather long, so that it looks like a frame")
            .await;
    })
    .await;
    let status = call(&to(&[&peer.address]), "hello")
        .await
        .expect_err("no gRPC there");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains(peer.address.as_str()), "{status}");
}

#[tokio::test]
async fn a_call_that_is_refused_goes_elsewhere_once() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let refusing = Peer::start(move |_, socket, _| {
        let count = Arc::clone(&count);
        async move {
            let mut connection = handshake(socket).await;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
        }
    })
    .await;
    let server = Server::start().await;
    let both = to(&[&refusing.address, &server.address]);
    until_ready(&both, 2).await;
    for _ in 0..10 {
        // It would always go where it is bound to.
        let call = bound("hello", &refusing.address);
        let answer = client(&both).say_hello(call).await;
        let message = answer.expect("goes elsewhere").into_inner().message;
        assert_eq!(message, format!("Hello hello from {}", server.address));
    }
    assert_eq!(
        refused.swap(0, Ordering::SeqCst),
        10,
        "each call was refused once and went elsewhere"
    );
    let status = call(&to(&[&refusing.address]), "hello")
        .await
        .expect_err("there is no elsewhere");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        refused.load(Ordering::SeqCst),
        2,
        "tried once more, and no more than that"
    );
}

#[tokio::test]
async fn a_call_above_the_last_id_of_goaway_goes_elsewhere() {
    let leaving = Peer::start(|number, socket, address| async move {
        if number == 0 {
            go_away_unprocessed(socket)
                .await
                .expect("the client speaks HTTP/2 to the end");
        } else {
            greet_all(handshake(socket).await, "hello", address).await;
        }
    })
    .await;
    call(&to(&[&leaving.address]), "hello")
        .await
        .expect("the next connection answers");
}

#[tokio::test]
async fn a_server_that_shuts_down_gracefully_loses_no_call() {
    let registry = registry();
    let channel = to_greeter(&registry);
    let mut servers = Vec::new();
    for _ in 0..3 {
        let server = Server::start().await;
        let registration = register(&registry, &server.address).await;
        servers.push((server, registration));
    }
    until_ready(&channel, 3).await;
    let mut callers = JoinSet::new();
    let stop = tokio_util::sync::CancellationToken::new();
    for _ in 0..8 {
        let (channel, stop) = (channel.clone(), stop.clone());
        callers.spawn(async move {
            let mut calls = 0;
            while !stop.is_cancelled() {
                call(&channel, "steady").await.expect("no call fails");
                calls += 1;
            }
            calls
        });
    }
    for (server, registration) in servers.drain(..2) {
        registration.deregister().await.expect("deregistered");
        server.shut_down();
        server.ended().await;
    }
    stop.cancel();
    let calls: usize = callers.join_all().await.into_iter().sum();
    assert!(calls > 0);
}

#[tokio::test]
async fn a_stream_limit_of_one_makes_calls_wait_their_turn_and_fails_none() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let narrow = Peer::start(move |_, socket, address| {
        let most = Arc::clone(&seen);
        async move {
            let mut builder = h2::server::Builder::new();
            let mut connection = builder
                .max_concurrent_streams(1)
                .handshake::<_, bytes::Bytes>(socket)
                .await
                .expect("an HTTP/2 client");
            let open = Arc::new(AtomicUsize::new(0));
            while let Some(Ok((_, respond))) = connection.accept().await {
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                greet(respond, "hello", &address);
                open.fetch_sub(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let channel = to(&[&narrow.address]);
    until_ready(&channel, 1).await;
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let channel = channel.clone();
        calls.spawn(async move { call(&channel, "hello").await });
    }
    for answer in calls.join_all().await {
        answer.expect("each call gets its turn");
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_dies_leaves_the_picker_before_the_registry_knows() {
    let registry = registry();
    let mortal = Peer::start(|number, socket, address| async move {
        if number > 0 {
            return hang(socket).await;
        }
        // Lives for as long as one call takes, then drops its socket.
        let mut connection = handshake(socket).await;
        if let Some(Ok((_, respond))) = connection.accept().await {
            greet(respond, "hello", &address);
        }
        let _ = tokio::time::timeout(Duration::from_millis(50), connection.accept()).await;
    })
    .await;
    let _stays = register(&registry, &mortal.address).await;
    let channel = to_greeter(&registry);
    assert_eq!(
        call(&channel, "hello").await.expect("an answer"),
        mortal.address.as_str()
    );
    let server = Server::start().await;
    let _lives = register(&registry, &server.address).await;
    until_ready(&channel, 1).await;
    until("the dead connection is noticed", || {
        channel.explain().endpoints.iter().any(|endpoint| {
            endpoint.id == mortal.address.as_str() && endpoint.state == "CONNECTING"
        })
    })
    .await;
    for _ in 0..20 {
        assert_eq!(
            call(&channel, "hello").await.expect("an answer"),
            server.address.as_str()
        );
    }
}

#[tokio::test]
async fn a_call_whose_connection_dies_under_it_is_unavailable_and_is_not_made_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&seen);
    let mortal = Peer::start(move |_, socket, _| {
        let calls = Arc::clone(&calls);
        async move {
            let mut connection = handshake(socket).await;
            let _call = connection.accept().await;
            calls.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let status = client(&to(&[&mortal.address]))
        .say_hello(hello("hello"))
        .await
        .expect_err("the server died");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().contains(mortal.address.as_str()),
        "{status}"
    );
    assert_eq!(
        seen.load(Ordering::SeqCst),
        1,
        "an application may have acted on it"
    );
}

#[tokio::test]
async fn a_call_is_tried_again_as_its_policy_says_also_while_nobody_can_be_reached() {
    let called = Arc::new(Notify::new());
    let tell = Arc::clone(&called);
    let mortal = Peer::start(move |_, socket, _| {
        let tell = Arc::clone(&tell);
        async move {
            let mut connection = handshake(socket).await;
            let _call = connection.accept().await;
            tell.notify_one();
            let _ends = connection.accept().await;
        }
    })
    .await;
    let address = mortal.address.clone();
    let channel = to_with(
        &[&address],
        r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.7s",
            "maxBackoff":"0.7s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#,
    );
    let answer = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "hello").await }
    });
    called.notified().await;
    // It restarts: the next attempt finds nobody. Who has never answered is tried again after 1.3 to 1.9 seconds, and four backoffs
    // take 2.2 at least.
    drop(mortal);
    until("nobody can be reached", || {
        channel.state() == ConnectivityState::TransientFailure
    })
    .await;
    let server = Server::start_at(address.as_str()).await;
    let by = answer.await.expect("runs").expect("an answer");
    assert_eq!(by, address.as_str());
    let previous = server.seen.previous_attempts.load(Ordering::SeqCst);
    assert!(previous >= 2, "{previous} attempts before");
}
