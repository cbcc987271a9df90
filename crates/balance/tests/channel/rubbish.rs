//! Servers that send rubbish, frame by frame: a call fails with what was wrong, and takes no other one down.

mod connections;
mod ends;
mod metadata;
mod silence;
mod statuses;
mod streams;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance::Channel;
use registry::Address;
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use crate::{
    BOUND, bound, call, client,
    frames::{Asked, Script, Wire},
    hello,
    peer::Peer,
    server::Server,
    to, until, until_ready,
};

/// A server that answers calls named `rubbish` in its own way. It greets everybody else at once, but for `steady`, who
/// has to wait for the next one's turn.
struct Rude {
    peer: Peer,
    connections: Arc<AtomicUsize>,
}

impl Rude {
    async fn start(answer: impl Fn(u32) -> Script + Clone + Send + Sync + 'static) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let peer = Peer::start(move |_, socket, address| {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            async move {
                let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
                let mut steady = None;
                while let Ok(Asked { stream, names }) = wire.asked().await {
                    let script = match names[0].as_str() {
                        "rubbish" => answer(stream),
                        "steady" => {
                            steady = Some(stream);
                            continue;
                        }
                        name => Script::on(stream).greets(name, &address),
                    };
                    if wire.write(script).await.is_err() {
                        return;
                    }
                    if names[0] != "rubbish"
                        && let Some(stream) = steady.take()
                    {
                        let script = Script::on(stream).greets("steady", &address);
                        wire.write(script).await.expect("the client is there");
                    }
                }
            }
        })
        .await;
        Self { peer, connections }
    }

    fn address(&self) -> &Address {
        &self.peer.address
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn assert_says(status: &Status, code: Code, says: &str) {
    assert_eq!(status.code(), code, "{status}");
    assert!(
        status.message().contains(says),
        "{says:?} is not in {status}"
    );
}

/// The call fails with that; one that was under way on the same connection is answered, and so is the next.
async fn fails_alone(
    (code, says): (Code, &str),
    answer: impl Fn(u32) -> Script + Clone + Send + Sync + 'static,
) {
    fails_alone_within(BOUND, (code, says), answer).await;
}

async fn fails_alone_within(
    timeout: Duration,
    (code, says): (Code, &str),
    answer: impl Fn(u32) -> Script + Clone + Send + Sync + 'static,
) {
    let rude = Rude::start(answer).await;
    let channel = to(&[rude.address()]);
    let steady = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "steady").await }
    });
    until("the steady call is under way", || in_flight(&channel) == 1).await;
    let mut request = hello("rubbish");
    request.set_timeout(timeout);
    let answer = client(&channel).say_hello(request).await;
    assert_says(&answer.expect_err("rubbish"), code, says);
    call(&channel, "next").await.expect("an answer");
    steady.await.expect("runs").expect("an answer");
    assert_eq!(rude.connections(), 1, "no reason for another connection");
}

fn in_flight(channel: &Channel) -> usize {
    let endpoints = channel.explain().endpoints;
    endpoints.iter().map(|endpoint| endpoint.in_flight).sum()
}

/// The call fails with that, and so do its connection and another call on it, for nothing that comes on that can be trusted; another
/// endpoint's calls go on, and the next call to this one is answered on a new connection.
async fn fails_with_its_connection(
    (code, says): (Code, &str),
    answer: impl Fn(u32) -> Script + Clone + Send + Sync + 'static,
) {
    let (rude, server) = (Rude::start(answer).await, Server::start().await);
    let channel = to(&[rude.address(), &server.address]);
    until_ready(&channel, 2).await;
    let mut elsewhere = client(&channel)
        .say_hello_stream_reply(bound("ticks", &server.address))
        .await
        .expect("a stream")
        .into_inner();
    let steady = tokio::spawn({
        let (mut client, request) = (client(&channel), bound("steady", rude.address()));
        async move { client.say_hello(request).await }
    });
    until("the steady call is under way", || in_flight(&channel) == 2).await;
    let status = client(&channel)
        .say_hello(bound("rubbish", rude.address()))
        .await
        .expect_err("rubbish");
    assert_says(&status, code, says);
    let beside = steady
        .await
        .expect("runs")
        .expect_err("its connection broke");
    assert_says(&beside, code, says);
    assert!(
        status.message().contains(rude.address().as_str()),
        "{status} does not say whose fault it was"
    );
    until("it is connected again", || rude.connections() == 2).await;
    until_ready(&channel, 2).await;
    let again = client(&channel)
        .say_hello(bound("again", rude.address()))
        .await
        .expect("an answer")
        .into_inner();
    assert!(again.message.contains(rude.address().as_str()), "{again:?}");
    for _ in 0..10 {
        elsewhere.next().await.expect("goes on").expect("goes on");
    }
}
