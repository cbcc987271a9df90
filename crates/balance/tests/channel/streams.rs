//! Many calls on one connection: the server's limit of streams, and calls that were given up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance::{Channel, ResponseBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tower::Service;

use crate::{
    call, client,
    frames::frame,
    hello,
    peer::{Peer, greet, hang},
    register, registry,
    server::Server,
    until, until_ready,
};

/// A channel to one peer, ready.
async fn only(peer: &Peer) -> Channel {
    let channel = Channel::builder(format!("static:///{}", peer.address))
        .build()
        .expect("a channel");
    until_ready(&channel, 1).await;
    channel
}

/// Takes one stream at a time.
async fn narrow(socket: TcpStream) -> h2::server::Connection<TcpStream, bytes::Bytes> {
    h2::server::Builder::new()
        .max_concurrent_streams(1)
        .handshake(socket)
        .await
        .expect("an HTTP/2 client")
}

fn in_flight(channel: &Channel) -> usize {
    channel.explain().endpoints[0].in_flight
}

#[tokio::test]
async fn a_caller_that_never_stops_starves_no_other_of_a_stream() {
    let peer = Peer::start(|_, socket, address| async move {
        let mut connection = narrow(socket).await;
        while let Some(Ok((_, respond))) = connection.accept().await {
            greet(respond, "x", &address);
        }
    })
    .await;
    let channel = only(&peer).await;
    let busy = tokio::spawn({
        let channel = channel.clone();
        async move {
            loop {
                call(&channel, "x").await.expect("an answer");
            }
        }
    });
    until("it has the stream", || in_flight(&channel) == 1).await;
    let mut request = hello("x");
    request.set_timeout(Duration::from_secs(2));
    let answer = client(&channel).say_hello(request).await;
    busy.abort();
    answer.expect("gets its turn");
}

#[tokio::test]
async fn a_full_connection_that_goes_away_keeps_no_new_call() {
    let peer = Peer::start(|number, socket, address| async move {
        let mut connection = narrow(socket).await;
        let mut held = None;
        while let Some(Ok((_, respond))) = connection.accept().await {
            if number > 0 {
                greet(respond, "x", &address);
            } else {
                held = Some(respond);
                connection.graceful_shutdown();
            }
        }
        drop(held);
    })
    .await;
    let channel = only(&peer).await;
    let _long = tokio::spawn({
        let c = channel.clone();
        async move { call(&c, "x").await }
    });
    until("the other has the stream", || in_flight(&channel) == 1).await;
    let mut request = hello("x");
    request.set_timeout(Duration::from_secs(2));
    client(&channel)
        .say_hello(request)
        .await
        .expect("a new connection answers");
}

#[tokio::test]
async fn a_call_that_waits_for_a_stream_goes_elsewhere_when_the_connection_dies() {
    let narrow = Peer::start(|number, socket, _| async move {
        if number > 0 {
            return hang(socket).await;
        }
        let mut connection = narrow(socket).await;
        let _held = connection.accept().await;
        let _ = tokio::time::timeout(Duration::from_millis(300), connection.accept()).await;
    })
    .await;
    let channel = only(&narrow).await;
    let _first = tokio::spawn({
        let c = channel.clone();
        async move { call(&c, "x").await }
    });
    until("it has the stream", || in_flight(&channel) == 1).await;
    let mut request = hello("y");
    request.set_timeout(Duration::from_secs(2));
    let status = client(&channel)
        .say_hello(request)
        .await
        .expect_err("nobody");
    assert_eq!(
        status.code(),
        tonic::Code::DeadlineExceeded,
        "queued on, not failed: {status}"
    );
}

#[tokio::test]
async fn a_call_that_waits_for_its_retry_keeps_no_stream_from_others() {
    let seen = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&seen);
    let peer = Peer::start(move |_, socket, address| {
        let calls = Arc::clone(&calls);
        async move {
            let mut connection = narrow(socket).await;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                if calls.fetch_add(1, Ordering::SeqCst) == 0 {
                    let response = http::Response::builder()
                        .header("content-type", "application/grpc")
                        .header("grpc-status", "14")
                        .body(())
                        .expect("one");
                    respond.send_response(response, true).expect("open");
                } else {
                    greet(respond, "x", &address);
                }
            }
        }
    })
    .await;
    let json = r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":2,"initialBackoff":"3s","maxBackoff":"3s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#;
    let channel = Channel::builder(format!("static:///{}", peer.address))
        .service_config(json)
        .build()
        .expect("a channel");
    until_ready(&channel, 1).await;
    let retrying = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "x").await }
    });
    until(
        "the first attempt is over, and has given its stream back",
        || seen.load(Ordering::SeqCst) == 1 && in_flight(&channel) == 0,
    )
    .await;
    let started = tokio::time::Instant::now();
    call(&channel, "x").await.expect("an answer");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "waited {:?} for a call that waits itself",
        started.elapsed()
    );
    retrying.await.expect("runs").expect("an answer");
}

/// A request with a deadline and nothing to say.
fn raw(timeout: &str) -> http::Request<ResponseBody> {
    http::Request::post("http://greeter/helloworld.Greeter/SayHello")
        .header("grpc-timeout", timeout)
        .body(ResponseBody::default())
        .expect("a request")
}

/// Answers each call just after its caller has given up, and the first one at the end.
async fn too_late(mut socket: TcpStream, abandoned: usize) {
    socket
        .read_exact(&mut [0; 24])
        .await
        .expect("a client that speaks HTTP/2");
    socket
        .write_all(&frame(4, 0, 0, &[]))
        .await
        .expect("a client that speaks HTTP/2");
    let mut reset = Vec::new();
    let mut first = 0;
    loop {
        let mut head = [0; 9];
        if socket.read_exact(&mut head).await.is_err() {
            return;
        }
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; len];
        socket
            .read_exact(&mut payload)
            .await
            .expect("a client that speaks HTTP/2");
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], head[4]) {
            (4, 0) => socket
                .write_all(&frame(4, 1, 0, &[]))
                .await
                .expect("a client that speaks HTTP/2"),
            (6, 0) => socket
                .write_all(&frame(6, 1, 0, &payload))
                .await
                .expect("a client that speaks HTTP/2"),
            (1, _) if first == 0 => first = stream,
            (3, _) => reset.push(stream),
            _ => {}
        }
        if reset.len() == abandoned {
            for stream in std::mem::take(&mut reset) {
                // :status 200, END_HEADERS
                socket
                    .write_all(&frame(1, 4, stream, &[0x88]))
                    .await
                    .expect("a client that speaks HTTP/2");
            }
            let mut block = vec![0x88];
            for (name, value) in [("content-type", "application/grpc"), ("grpc-status", "0")] {
                block.push(0);
                block.push(u8::try_from(name.len()).expect("short"));
                block.extend(name.bytes());
                block.push(u8::try_from(value.len()).expect("short"));
                block.extend(value.bytes());
            }
            let _ = socket.write_all(&frame(1, 5, first, &block)).await;
        }
    }
}

#[tokio::test]
async fn answers_that_come_too_late_take_no_other_call_down() {
    const ABANDONED: usize = 2_500;
    let peer = Peer::start(|_, socket, _| too_late(socket, ABANDONED)).await;
    let mut channel = Channel::builder(format!("static:///{}", peer.address))
        .build()
        .expect("a channel");
    until_ready(&channel, 1).await;
    let survivor = tokio::spawn(channel.call(raw("20S")));
    until("it is under way", || in_flight(&channel) == 1).await;
    let mut calls = JoinSet::new();
    for _ in 0..ABANDONED {
        calls.spawn(channel.call(raw("500m")));
    }
    for answer in calls.join_all().await {
        let answer = answer.expect("infallible");
        assert_eq!(answer.headers()["grpc-status"], "4", "{answer:?}");
    }
    let answer = survivor.await.expect("runs").expect("infallible");
    assert_eq!(answer.headers()["grpc-status"], "0", "{answer:?}");
}

#[tokio::test]
async fn a_call_that_waits_for_a_stream_goes_to_an_instance_that_comes_meanwhile() {
    let narrow = Peer::start(|_, socket, _| async move {
        let mut connection = narrow(socket).await;
        let mut held = Vec::new();
        while let Some(Ok(call)) = connection.accept().await {
            held.push(call);
        }
    })
    .await;
    let registry = registry();
    let _narrow = register(&registry, &narrow.address).await;
    let channel = Channel::builder("greeter")
        .registry(&registry)
        .service_config(r#"{"connectionScaling":{"maxConnectionsPerSubchannel":1},"loadBalancingConfig":[{"round_robin":{}}]}"#)
        .build()
        .expect("a channel");
    until_ready(&channel, 1).await;
    let calls: [_; 2] = std::array::from_fn(|_| {
        let channel = channel.clone();
        tokio::spawn(async move { call(&channel, "x").await })
    });
    until("one has the stream, and one waits", || {
        let explained = channel.explain();
        (explained.endpoints[0].in_flight, explained.calls_queued) == (1, 1)
    })
    .await;
    let server = Server::start().await;
    let _server = register(&registry, &server.address).await;
    until("the one that waited is answered", || {
        calls.iter().any(tokio::task::JoinHandle::is_finished)
    })
    .await;
    for call in calls {
        if call.is_finished() {
            let answer = call.await.expect("no panic");
            assert_eq!(answer.expect("an answer"), server.address.as_str());
        } else {
            call.abort();
        }
    }
}
