//! What users of gRPC in Rust suffer from, one test for each: it must not happen here. Issues without a repository are
//! grpc/grpc-rust's (formerly hyperium/tonic).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use balance::{Affinity, Channel, ResponseBody, WaitForReady};
use bytes::Bytes;
use http_body::{Body, Frame};
use proto::helloworld::HelloRequest;
use registry::{Address, InstanceId};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::{
    bound, call, client,
    frames::{END_STREAM, HEAD, Script, Wire, asking, framed, greeting},
    patient,
    peer::{Peer, greet, greet_all, handshake, hang},
    register, registry,
    server::Server,
    to, to_greeter, until, until_ready,
};

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

const RETRIES: &str = r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.01s",
    "maxBackoff":"0.01s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#;

fn state_of(channel: &Channel, address: &Address) -> String {
    let endpoints = channel.explain().endpoints;
    let mut endpoints = endpoints.into_iter();
    let endpoint = endpoints.find(|endpoint| endpoint.id == address.as_str());
    endpoint.expect("an endpoint").state
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

/// A request body that cannot be cloned.
struct Once(UnboundedReceiverStream<Bytes>);

impl Body for Once {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = tokio_stream::Stream::poll_next(Pin::new(&mut self.0), cx);
        next.map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

/// Issues 733 and 1463.
#[tokio::test]
async fn requests_that_cannot_be_cloned_are_retried_unary_and_streaming() {
    let peer = Peer::start(|_, socket, address| async move {
        let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
        for call in 0.. {
            let Ok(asked) = wire.asked().await else {
                return;
            };
            let script = Script::on(asked.stream);
            let script = if call % 3 < 2 {
                let unavailable = [HEAD.as_slice(), &[("grpc-status", "14")]];
                script.headers(END_STREAM, &unavailable.concat())
            } else {
                script.greets(&asked.names.join(" and "), &address)
            };
            wire.write(script).await.expect("the client is there");
        }
    })
    .await;
    let mut channel = Channel::builder(format!("static:///{}", peer.address))
        .service_config(RETRIES)
        .build()
        .expect("a channel");
    for names in [["one"].as_slice(), &["one", "two", "three"]] {
        let (send, body) = mpsc::unbounded_channel();
        let mut request = http::Request::new(Once(UnboundedReceiverStream::new(body)));
        *request.uri_mut() = "/helloworld.Greeter/SayHello".parse().expect("a path");
        let answer = tokio::spawn(channel.call(request));
        for name in names {
            send.send(Bytes::from(asking(name))).expect("read");
        }
        drop(send);
        let Ok(answer) = answer.await.expect("runs");
        let mut body = answer.into_body();
        let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let Ok(first) = first.expect("a reply");
        let reply = first.into_data().expect("a reply, and no status");
        let expected = greeting(&names.join(" and "), &peer.address);
        assert_eq!(reply, expected, "the third attempt, whole");
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
        took < Duration::from_secs(1),
        "woken after {took:?} {round}"
    );
}
