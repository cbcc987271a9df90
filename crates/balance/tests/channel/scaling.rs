//! More connections to an endpoint when calls need them, and fewer when they do not (gRFC A105).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance::{Affinity, Channel};
use bytes::Bytes;
use h2::server::SendResponse;
use proto::helloworld::HelloRequest;
use registry::{Address, InstanceId};
use tokio::{runtime::Handle, sync::mpsc, task::JoinSet, time::Instant};
use tonic::Request;

use crate::{
    BOUND, call, client,
    peer::{Peer, greet, hang},
    register, registry,
    server::Server,
    to, to_greeter, to_with, until, until_ready,
};

/// A peer that takes one stream at a time on each connection, and answers when it is told to.
struct Narrow {
    peer: Peer,
    /// Connections that are open now.
    open: Arc<AtomicUsize>,
    /// The calls as they come, each with its connection's number.
    calls: mpsc::UnboundedReceiver<(usize, SendResponse<Bytes>)>,
}

impl Narrow {
    /// Of its connections the first `answering` speak HTTP/2, and the others say nothing.
    async fn start(answering: usize) -> Self {
        let open = Arc::new(AtomicUsize::new(0));
        let (tell, calls) = mpsc::unbounded_channel();
        let count = Arc::clone(&open);
        let peer = Peer::start(move |number, socket, _| {
            let (count, tell) = (Arc::clone(&count), tell.clone());
            async move {
                if number >= answering {
                    return hang(socket).await;
                }
                let mut connection = h2::server::Builder::new()
                    .max_concurrent_streams(1)
                    .handshake(socket)
                    .await
                    .expect("an HTTP/2 client");
                count.fetch_add(1, Ordering::SeqCst);
                while let Some(Ok((_, respond))) = connection.accept().await {
                    // Whether the test still looks does not matter.
                    let _ = tell.send((number, respond));
                }
                count.fetch_sub(1, Ordering::SeqCst);
            }
        })
        .await;
        Self { peer, open, calls }
    }

    fn address(&self) -> &Address {
        &self.peer.address
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    async fn call(&mut self) -> (usize, SendResponse<Bytes>) {
        let call = tokio::time::timeout(BOUND, self.calls.recv()).await;
        call.expect("a call comes").expect("the peer runs")
    }

    fn answer(&self, respond: SendResponse<Bytes>) {
        greet(respond, "hello", self.address());
    }
}

async fn channel(peer: &Narrow, most: u32) -> Channel {
    let config = format!(r#"{{"connectionScaling": {{"maxConnectionsPerSubchannel": {most}}}}}"#);
    let channel = Channel::builder(format!("static:///{}", peer.address()))
        .service_config(config)
        .build()
        .expect("a channel");
    until_ready(&channel, 1).await;
    channel
}

fn callers(channel: &Channel, count: usize) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for _ in 0..count {
        let channel = channel.clone();
        callers.spawn(async move {
            // Without a deadline, because time is made to pass.
            let name = "hello".into();
            let request = Request::new(HelloRequest { name });
            let answer = client(&channel).say_hello(request).await;
            answer.expect("an answer");
        });
    }
    callers
}

/// Lets so many seconds pass, with what is due in them.
async fn pass(seconds: u32) {
    tokio::time::pause();
    for _ in 0..seconds {
        tokio::time::advance(Duration::from_secs(1)).await;
        // Timers are looked at before the runtime waits, and it does so before this goes on.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::resume();
}

#[tokio::test]
async fn calls_above_the_limit_of_streams_get_another_connection_and_it_goes_when_idle() {
    let mut peer = Narrow::start(usize::MAX).await;
    let channel = channel(&peer, 8).await;
    assert_eq!(peer.open(), 1);
    let callers = callers(&channel, 2);
    let (first, second) = (peer.call().await, peer.call().await);
    assert_eq!((first.0, second.0), (0, 1), "each on its own connection");
    assert_eq!(peer.open(), 2);
    peer.answer(first.1);
    peer.answer(second.1);
    callers.join_all().await;
    // The next call prefers the first connection, so that the other one falls idle.
    let next = self::callers(&channel, 1);
    let (connection, respond) = peer.call().await;
    assert_eq!(connection, 0);
    pass(60).await;
    until("the second is let go", || peer.open() == 1).await;
    peer.answer(respond);
    next.join_all().await;
}

#[tokio::test]
async fn a_connection_that_is_in_use_is_not_let_go() {
    let mut peer = Narrow::start(usize::MAX).await;
    let channel = channel(&peer, 8).await;
    let callers = callers(&channel, 2);
    let (first, second) = (peer.call().await, peer.call().await);
    peer.answer(first.1);
    pass(300).await;
    assert_eq!(peer.open(), 2);
    peer.answer(second.1);
    callers.join_all().await;
}

#[tokio::test]
async fn there_are_never_more_connections_than_are_allowed_and_calls_take_their_turns() {
    let mut peer = Narrow::start(usize::MAX).await;
    let channel = channel(&peer, 3).await;
    let callers = callers(&channel, 30);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(peer.call().await);
    }
    for _ in 0..27 {
        let (_, respond) = held.remove(0);
        peer.answer(respond);
        held.push(peer.call().await);
        assert!(peer.open() <= 3);
    }
    for (_, respond) in held {
        peer.answer(respond);
    }
    callers.join_all().await;
    assert_eq!(peer.open(), 3);
}

#[tokio::test]
async fn who_may_have_one_connection_waits_for_its_streams() {
    let mut peer = Narrow::start(usize::MAX).await;
    let channel = channel(&peer, 1).await;
    let callers = callers(&channel, 4);
    for _ in 0..4 {
        let (connection, respond) = peer.call().await;
        assert_eq!((connection, peer.open()), (0, 1));
        peer.answer(respond);
    }
    callers.join_all().await;
}

#[tokio::test]
async fn calls_that_wait_for_one_endpoint_take_the_streams_of_another() {
    let (mut free, mut busy) = (Narrow::start(1).await, Narrow::start(1).await);
    let channel = to_with(
        &[free.address(), busy.address()],
        r#"{"loadBalancingConfig":[{"round_robin":{}}],"connectionScaling":{"maxConnectionsPerSubchannel":1}}"#,
    );
    until_ready(&channel, 2).await;
    // One is under way at each of them, and of the two that wait one does at each.
    let callers = callers(&channel, 4);
    let (_, held) = busy.call().await;
    let started = Instant::now();
    for _ in 0..3 {
        let (_, respond) = free.call().await;
        free.answer(respond);
    }
    assert!(started.elapsed() < BOUND / 5, "{:?}", started.elapsed());
    busy.answer(held);
    callers.join_all().await;
}

#[tokio::test]
async fn an_endpoint_stays_ready_while_another_connection_cannot_be_had() {
    let mut peer = Narrow::start(1).await;
    let channel = channel(&peer, 8).await;
    let callers = callers(&channel, 2);
    let (_, respond) = peer.call().await;
    // The attempt gets its 20 seconds, and what comes after it.
    pass(25).await;
    assert_eq!(channel.explain().endpoints[0].state, "READY");
    peer.answer(respond);
    let (connection, respond) = peer.call().await;
    assert_eq!(
        connection, 0,
        "the waiting call takes the stream that came free"
    );
    peer.answer(respond);
    callers.join_all().await;
}

#[tokio::test]
async fn a_caller_that_stops_waiting_loses_no_stream_to_others() {
    let mut peer = Narrow::start(usize::MAX).await;
    let channel = channel(&peer, 1).await;
    let busy = callers(&channel, 1);
    let (_, respond) = peer.call().await;
    let mut waiting = callers(&channel, 5);
    until("they wait", || channel.explain().calls_in_flight == 6).await;
    tokio::task::yield_now().await;
    waiting.abort_all();
    while waiting.join_next().await.is_some() {}
    let last = callers(&channel, 1);
    peer.answer(respond);
    let (_, respond) = peer.call().await;
    peer.answer(respond);
    last.join_all().await;
    busy.join_all().await;
}

#[tokio::test]
async fn an_endpoint_that_is_removed_finishes_its_calls_and_leaves_nothing_behind() {
    let registry = registry();
    let (one, two) = (Server::start().await, Server::start().await);
    let _stay = [
        register(&registry, &one.address).await,
        register(&registry, &two.address).await,
    ];
    let channel = to_greeter(&registry);
    until_ready(&channel, 2).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut peer = Narrow::start(usize::MAX).await;
    let registration = register(&registry, peer.address()).await;
    until_ready(&channel, 3).await;
    let mut request = Request::new(HelloRequest {
        name: "hello".into(),
    });
    let id = InstanceId::from(peer.address());
    request.extensions_mut().insert(Affinity(id));
    let bound = tokio::spawn({
        let channel = channel.clone();
        async move { client(&channel).say_hello(request).await }
    });
    let (_, respond) = peer.call().await;
    registration.deregister().await.expect("deregistered");
    until_ready(&channel, 2).await;
    assert_eq!(channel.explain().endpoints.len(), 2);
    assert_eq!(peer.open(), 1, "the call goes on");
    peer.answer(respond);
    bound.await.expect("runs").expect("an answer");
    until("the connection is closed", || peer.open() == 0).await;
    drop(peer);
    until("its tasks are gone", || tasks() == before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_forgotten_while_connections_come_and_go() {
    const CALLS_A_CONNECTION: usize = 10;
    let peer = Peer::start(|_, socket, address| async move {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(2);
        let connection = builder.handshake(socket).await;
        let mut connection = connection.expect("an HTTP/2 client");
        for calls in 1.. {
            let Some(Ok((_, respond))) = connection.accept().await else {
                break;
            };
            greet(respond, "hello", &address);
            if calls == CALLS_A_CONNECTION {
                connection.graceful_shutdown();
            }
        }
    })
    .await;
    let channel = to(&[&peer.address]);
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        let channel = channel.clone();
        callers.spawn(async move {
            for _ in 0..25 {
                call(&channel, "hello").await.expect("each gets its turn");
            }
        });
    }
    callers.join_all().await;
}
