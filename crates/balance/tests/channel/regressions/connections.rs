//! Connections: how they begin, how many there are, how they end.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance::{Affinity, Channel, ResponseBody};
use proto::helloworld::HelloRequest;
use registry::{Address, InstanceId};
use tokio::{task::JoinSet, time::Instant};
use tokio_stream::StreamExt;
use tower::Service;

use crate::{
    bound, call, client,
    frames::{Script, Wire, framed},
    patient,
    peer::{Peer, greet, greet_all, handshake, hang},
    register, registry,
    server::Server,
    to, to_greeter, until, until_ready,
};

use super::state_of;

/// How many of this machine's sockets to one of these addresses wait to be closed by us.
fn close_waits(to: &[Address]) -> usize {
    const CLOSE_WAIT: &str = "08";
    let ends: Vec<_> = to
        .iter()
        .map(|to| format!("0100007F:{:04X}", to.port().expect("TCP")))
        .collect();
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux says");
    let waits = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        let remote = fields.next().unwrap_or_default();
        ends.iter().any(|end| end == remote) && fields.next() == Some(CLOSE_WAIT)
    };
    sockets.lines().filter(waits).count()
}

/// Issue 2257.
#[tokio::test]
async fn an_idle_channel_leaves_no_socket_in_close_wait_and_its_next_call_is_answered() {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start().await);
    }
    let addresses: Vec<_> = servers.iter().map(|s| s.address.clone()).collect();
    let channel = to(&addresses.iter().collect::<Vec<_>>());
    until_ready(&channel, 3).await;
    call(&channel, "x").await.expect("an answer");
    for server in servers.drain(..) {
        server.shut_down();
        server.ended().await;
    }
    until("no socket waits for being closed", || {
        close_waits(&addresses) == 0 && state_of(&channel, &addresses[0]) != "READY"
    })
    .await;
    for address in &addresses {
        servers.push(Server::start_at(address.as_str()).await);
    }
    client(&channel)
        .say_hello(patient("x"))
        .await
        .expect("an answer");
}

/// tonic's `reconnect.rs`; TrueLayer/ginepro#37.
#[tokio::test(start_paused = true)]
async fn connecting_is_bounded_in_time_and_tried_again_with_backoff() {
    let tries = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&tries);
    let peer = Peer::start(move |number, socket, address| {
        seen.lock().expect("no panic").push(Instant::now());
        async move {
            match number {
                // Accepts, and says nothing.
                0 => hang(socket).await,
                1..=5 => drop(socket),
                _ => greet_all(handshake(socket).await, "x", address).await,
            }
        }
    })
    .await;
    let channel = to(&[&peer.address]);
    let mut request = patient("x");
    request.set_timeout(Duration::from_hours(1));
    let answer = client(&channel).say_hello(request).await;
    answer.expect("the seventh try");
    let tries = tries.lock().expect("no panic").clone();
    let waits: Vec<_> = tries.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(waits.len(), 6, "{waits:?}");
    // grpc/grpc `doc/connection-backoff.md`: 20 s to connect; 1 s × 1.6 more each time, ±20 %.
    assert!(
        (20.0..20.5).contains(&waits[0].as_secs_f64()),
        "{waits:?}: the first try had its time, which was more than the backoff"
    );
    for (wait, exponent) in waits[1..].iter().zip(1..) {
        let backoff = 1.6_f64.powi(exponent);
        let range = 0.8 * backoff - 0.05..1.2 * backoff + 0.5;
        assert!(range.contains(&wait.as_secs_f64()), "{waits:?}: {range:?}");
    }
}

/// Issues 1254 and 2144.
#[tokio::test]
async fn a_channel_is_ready_after_the_machine_slept_for_hours() {
    let registry = registry();
    let (stays, restarts) = (Server::start().await, Server::start().await);
    let _registrations = [
        register(&registry, &stays.address).await,
        register(&registry, &restarts.address).await,
    ];
    for idle_timeout in [None, Some(Duration::from_mins(30))] {
        let mut channel = Channel::builder("greeter")
            .registry(&registry)
            .idle_timeout(idle_timeout)
            .build()
            .expect("a channel");
        until_ready(&channel, 2).await;
        call(&channel, "x").await.expect("an answer");
        tokio::time::pause();
        tokio::time::advance(Duration::from_hours(8)).await;
        tokio::time::resume();
        let Ok(()) =
            poll_fn(|cx| Service::<http::Request<ResponseBody>>::poll_ready(&mut channel, cx))
                .await;
        for _ in 0..10 {
            call(&channel, "x").await.expect("an answer");
        }
    }
    // While it slept, a server was replaced, and its connections are dead.
    let channel = to_greeter(&registry);
    until_ready(&channel, 2).await;
    let address = restarts.address.clone();
    restarts.shut_down();
    restarts.ended().await;
    let _restarted = Server::start_at(address.as_str()).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_hours(8)).await;
    tokio::time::resume();
    for _ in 0..10 {
        call(&channel, "x").await.expect("an answer");
    }
    until_ready(&channel, 2).await;
}

/// Issue 607, hyperium/h2#531. Nothing is configured for it.
#[tokio::test]
async fn the_streams_of_one_connection_are_not_the_limit() {
    const STREAMS: u32 = 5;
    const CALLS: usize = 20;
    let all_are_here = Arc::new(tokio::sync::Barrier::new(CALLS));
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let peer = Peer::start(move |_, socket, address| {
        count.fetch_add(1, Ordering::SeqCst);
        let all_are_here = Arc::clone(&all_are_here);
        async move {
            let mut connection = h2::server::Builder::new()
                .max_concurrent_streams(STREAMS)
                .handshake(socket)
                .await
                .expect("an HTTP/2 client");
            let mut answers = JoinSet::new();
            while let Some(Ok((_, respond))) = connection.accept().await {
                let (all_are_here, address) = (Arc::clone(&all_are_here), address.clone());
                answers.spawn(async move {
                    all_are_here.wait().await;
                    greet(respond, "x", &address);
                });
            }
        }
    })
    .await;
    let channel = to(&[&peer.address]);
    until_ready(&channel, 1).await;
    let mut callers = JoinSet::new();
    for _ in 0..CALLS {
        let channel = channel.clone();
        callers.spawn(async move { call(&channel, "x").await });
    }
    for answer in callers.join_all().await {
        answer.expect("none waits for another one's stream");
    }
    assert_eq!(connections.load(Ordering::SeqCst), CALLS / STREAMS as usize);
}

/// Issue 2834, hyperium/h2#939.
#[tokio::test]
async fn many_small_frames_do_not_end_the_connection() {
    const MESSAGES: usize = 100_000;
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    // Each message in a frame of its own, which servers with a buffer do not do.
    let peer = Peer::start(move |_, socket, address| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
            while let Ok(asked) = wire.asked().await {
                let script = Script::on(asked.stream);
                let script = if asked.names == ["many"] {
                    let many = (0..MESSAGES).fold(script.head(), |script, _| {
                        script.data(0, &framed(0, 0, &[]))
                    });
                    many.end("0")
                } else {
                    script.greets(&asked.names[0], &address)
                };
                wire.write(script).await.expect("the client is there");
            }
        }
    })
    .await;
    let server = Server::start().await;
    let channel = to(&[&peer.address, &server.address]);
    until_ready(&channel, 2).await;
    let replies = client(&channel)
        .say_hello_stream_reply(bound("many", &peer.address))
        .await
        .expect("a stream")
        .into_inner();
    // All of them lie unread while another call goes by.
    client(&channel)
        .say_hello(bound("another", &peer.address))
        .await
        .expect("an answer");
    let came = replies.filter_map(Result::ok).fold(0, |came, _| came + 1);
    assert_eq!(came.await, MESSAGES);

    let requests = tokio_stream::iter(0..MESSAGES).then(|n| async move {
        // So that it is sent before the next one comes.
        tokio::task::yield_now().await;
        HelloRequest {
            name: (n % 10).to_string(),
        }
    });
    let mut request = tonic::Request::new(requests);
    request
        .extensions_mut()
        .insert(Affinity(InstanceId::from(&server.address)));
    let replies = client(&channel)
        .say_hello_bidi_stream(request)
        .await
        .expect("a stream")
        .into_inner();
    let came = replies.filter_map(Result::ok).fold(0, |came, _| came + 1);
    assert_eq!(came.await, MESSAGES);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
