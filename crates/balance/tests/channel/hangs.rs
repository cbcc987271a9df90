//! Servers that stop answering without closing anything.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use balance::{Channel, ConnectivityState, KeepAlive};
use bytes::Bytes;
use h2::server::SendResponse;
use registry::Address;
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Status};

use crate::{
    client,
    frames::{PING, Wire},
    hello,
    peer::{Peer, greet, handshake},
    to, until, until_ready,
};

/// A greeter that can be stopped as by SIGSTOP: it reads nothing and says nothing, and its sockets stay open.
struct Stoppable {
    peer: Peer,
    goes: watch::Sender<bool>,
    connections: Arc<AtomicUsize>,
}

impl Stoppable {
    async fn start() -> Self {
        let goes = watch::Sender::new(true);
        let connections = Arc::new(AtomicUsize::new(0));
        let (stopping, count) = (goes.clone(), Arc::clone(&connections));
        let peer = Peer::start(move |_, socket, address| {
            let mut goes = stopping.subscribe();
            let count = Arc::clone(&count);
            async move {
                goes.wait_for(|goes| *goes).await.expect("kept");
                let mut connection = handshake(socket).await;
                count.fetch_add(1, Ordering::SeqCst);
                loop {
                    goes.wait_for(|goes| *goes).await.expect("kept");
                    let call = tokio::select! {
                        biased;
                        stopped = goes.wait_for(|goes| !goes) => { stopped.expect("kept"); continue },
                        call = connection.accept() => call,
                    };
                    match call {
                        Some(Ok((_, respond))) => answer(respond, &address).await,
                        _ => break,
                    }
                }
            }
        })
        .await;
        Self {
            peer,
            goes,
            connections,
        }
    }
}

/// Greets, unless the caller has given up meanwhile.
async fn answer(mut respond: SendResponse<Bytes>, address: &Address) {
    let given_up = |cx: &mut Context<'_>| Poll::Ready(respond.poll_reset(cx).is_ready());
    if !poll_fn(given_up).await {
        greet(respond, "hello", address);
    }
}

async fn call_within(channel: &Channel, deadline: Duration) -> Result<(), Status> {
    let mut request = hello("hello");
    request.set_timeout(deadline);
    client(channel).say_hello(request).await.map(drop)
}

fn state(channel: &Channel, peer: &Stoppable) -> (String, Option<String>) {
    let explanation = channel.explain();
    let mut endpoints = explanation.endpoints.into_iter();
    let endpoint = endpoints.find(|e| e.id == peer.peer.address.as_str());
    let endpoint = endpoint.expect("an endpoint");
    (endpoint.state, endpoint.remark)
}

#[tokio::test]
async fn a_server_that_stops_answering_is_found_out() {
    let (stops, stays) = (Stoppable::start().await, Stoppable::start().await);
    let channel = to(&[&stops.peer.address, &stays.peer.address]);
    until_ready(&channel, 2).await;
    stops.goes.send_replace(false);
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let channel = channel.clone();
        callers.spawn(async move {
            let mut failed = 0;
            for _ in 0..3 {
                if let Err(status) = call_within(&channel, Duration::from_secs(1)).await {
                    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
                    failed += 1;
                }
            }
            failed
        });
    }
    let failed: usize = callers.join_all().await.into_iter().sum();
    assert!((1..=8).contains(&failed), "{failed} of 24 calls failed");
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_fails_until_it_does_on_the_same_connection() {
    let peer = Stoppable::start().await;
    let channel = to(&[&peer.peer.address]);
    until_ready(&channel, 1).await;
    peer.goes.send_replace(false);
    let short = Duration::from_millis(100);
    call_within(&channel, short).await.expect_err("it hangs");
    let address = &peer.peer.address;
    let silent = (
        "TRANSIENT_FAILURE".to_owned(),
        Some(format!("{address}: does not answer")),
    );
    until("it fails", || state(&channel, &peer) == silent).await;
    let status = call_within(&channel, short)
        .await
        .expect_err("nobody answers");
    assert_eq!(status.code(), Code::Unavailable, "at once: {status}");
    assert!(status.message().contains("does not answer"), "{status}");
    peer.goes.send_replace(true);
    until("it is ready", || {
        channel.state() == ConnectivityState::Ready
    })
    .await;
    call_within(&channel, Duration::from_secs(5))
        .await
        .expect("it answers again");
    assert_eq!(peer.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_endpoint_that_never_answers_again_is_connected_anew() {
    let peer = Stoppable::start().await;
    let channel = to(&[&peer.peer.address]);
    until_ready(&channel, 1).await;
    peer.goes.send_replace(false);
    call_within(&channel, Duration::from_millis(100))
        .await
        .expect_err("it hangs");
    until("it fails", || {
        state(&channel, &peer).0 == "TRANSIENT_FAILURE"
    })
    .await;
    // The keep-alive timeout.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(21)).await;
    tokio::time::resume();
    until("it connects", || state(&channel, &peer).0 == "CONNECTING").await;
    peer.goes.send_replace(true);
    until_ready(&channel, 1).await;
    assert_eq!(peer.connections.load(Ordering::SeqCst), 2);
}

/// Proves that it is there once, and never speaks again.
async fn silent(connections: &Arc<AtomicUsize>) -> Peer {
    let connections = Arc::clone(connections);
    Peer::start(move |_, socket, _| {
        connections.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
            while wire.heard().await.is_ok_and(|frame| frame.kind != PING) {}
            while wire.next().await.is_ok() {}
        }
    })
    .await
}

#[tokio::test]
async fn a_channel_asks_for_signs_of_life_as_it_is_told_to() {
    let always = KeepAlive::every(Duration::from_secs(20)).without_calls(true);
    let patient = always.with_timeout(Duration::from_hours(1));
    let of_calls = always.without_calls(false);
    for (keep_alive, is_given_up) in [
        (None, false),
        (Some(of_calls), false),
        (Some(patient), false),
        (Some(always), true),
    ] {
        let connections = Arc::default();
        let peer = silent(&connections).await;
        let mut builder = Channel::builder(format!("static:///{}", peer.address));
        if let Some(keep_alive) = keep_alive {
            builder = builder.keep_alive(keep_alive);
        }
        let channel = builder.build().expect("a channel");
        until_ready(&channel, 1).await;
        tokio::time::pause();
        tokio::time::sleep(Duration::from_mins(2)).await;
        tokio::time::resume();
        if is_given_up {
            until("it is connected again", || {
                connections.load(Ordering::SeqCst) > 1
            })
            .await;
        } else {
            assert_eq!(connections.load(Ordering::SeqCst), 1, "{keep_alive:?}");
            assert_eq!(channel.explain().endpoints[0].state, "READY");
        }
    }
}
