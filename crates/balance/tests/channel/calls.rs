//! Calls of all four kinds, their deadlines, their cancellation, who made them and who answered.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use balance::{BuildError, Channel, ServedBy, TellServedBy};
use proto::helloworld::HelloRequest;
use tokio_stream::StreamExt;
use tonic::{Code, Request};

use crate::{BOUND, call, client, hello, peer::Peer, server::Server, to, until};

async fn one() -> (Server, Channel) {
    let server = Server::start().await;
    let channel = Channel::builder(format!("static:///{}", server.address))
        .build()
        .expect("a channel");
    (server, channel)
}

fn configured(server: &Server, json: &str) -> Channel {
    Channel::builder(format!("static:///{}", server.address))
        .service_config(json)
        .build()
        .expect("a channel")
}

#[tokio::test]
async fn a_server_streams_its_replies() {
    let (_server, channel) = one().await;
    let stream = client(&channel)
        .say_hello_stream_reply(hello("five"))
        .await
        .expect("a stream")
        .into_inner();
    assert_eq!(
        stream
            .filter_map(Result::ok)
            .collect::<Vec<_>>()
            .await
            .len(),
        5
    );
}

#[tokio::test]
async fn both_sides_stream_in_step() {
    let (server, channel) = one().await;
    let (send, requests) = tokio::sync::mpsc::channel::<HelloRequest>(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut replies = client(&channel)
        .say_hello_bidi_stream(requests)
        .await
        .expect("a stream")
        .into_inner();
    for name in ["a", "b", "c"] {
        send.send(HelloRequest { name: name.into() })
            .await
            .expect("the call lives");
        let reply = replies.next().await.expect("a reply").expect("a reply");
        assert_eq!(
            reply.message,
            format!("Hello {name} from {}", server.address)
        );
    }
    drop(send);
    assert!(replies.next().await.is_none(), "the server ends when we do");
}

#[tokio::test]
async fn many_requests_that_are_ready_at_once_stream_too() {
    let (_server, channel) = one().await;
    let requests = tokio_stream::iter((0..10_000).map(|n| HelloRequest {
        name: n.to_string(),
    }));
    let replies = client(&channel)
        .say_hello_bidi_stream(requests)
        .await
        .expect("a stream")
        .into_inner();
    assert_eq!(
        replies
            .filter_map(Result::ok)
            .collect::<Vec<_>>()
            .await
            .len(),
        10_000
    );
}

#[tokio::test]
async fn an_applications_status_comes_through_as_it_is() {
    let (_server, channel) = one().await;
    let status = call(&channel, "never").await.expect_err("refused");
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "50 % of “never”")
    );
}

#[tokio::test]
async fn a_deadline_ends_a_call_and_tells_the_server() {
    let (server, channel) = one().await;
    let mut request = hello("forever");
    request.set_timeout(Duration::from_millis(100));
    let status = client(&channel)
        .say_hello(request)
        .await
        .expect_err("too slow");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    // Who tells it first, the channel or the server that was told, is chance.
    assert!(status.message().contains("100ms"), "{status}");
    assert!(
        status.message().starts_with(server.address.as_str()),
        "{status}"
    );
    until("the handler has ended", || {
        server.seen.running.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn a_deadline_of_a_call_that_waited_for_its_connection_names_the_server_as_well() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let silent = Peer::answering(move |respond| {
        calls.lock().expect("no panic").push(respond);
    });
    let silent = silent.await;
    let mut request = hello("forever");
    request.set_timeout(Duration::from_secs(1));
    let status = client(&to(&[&silent.address])).say_hello(request).await;
    let status = status.expect_err("it says nothing");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let says = format!("{}: the response did not come within 1s", silent.address);
    assert_eq!(status.message(), says);
}

#[tokio::test]
async fn a_deadline_ends_a_stream_that_always_has_more() {
    let (server, channel) = one().await;
    for name in ["flood", "ticks"] {
        let mut request = hello(name);
        request.set_timeout(Duration::from_millis(200));
        let mut stream = client(&channel)
            .say_hello_stream_reply(request)
            .await
            .expect("a stream")
            .into_inner();
        let end = tokio::time::timeout(BOUND, async {
            loop {
                match stream.next().await {
                    Some(Ok(_)) => {}
                    end => break end,
                }
            }
        });
        let status = end
            .await
            .expect("the deadline ends it")
            .expect("a status")
            .expect_err("too long");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{name}");
    }
    until("the handlers have ended", || {
        server.seen.running.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn a_deadline_ends_a_stream_that_nobody_reads() {
    let (server, channel) = one().await;
    let mut request = hello("ticks");
    request.set_timeout(Duration::from_millis(200));
    let unread = client(&channel)
        .say_hello_stream_reply(request)
        .await
        .expect("a stream");
    until("the handler has ended", || {
        server.seen.running.load(Ordering::SeqCst) == 0
    })
    .await;
    until("nothing is in flight", || {
        channel.explain().endpoints[0].in_flight == 0
    })
    .await;
    let status = unread
        .into_inner()
        .next()
        .await
        .expect("a status")
        .expect_err("too long");
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn what_a_service_config_gives_a_method_is_its_deadline() {
    let server = Server::start().await;
    let channel_with = |timeout| {
        let method = r#"{"service":"helloworld.Greeter","method":"SayHello"}"#;
        let json = format!(r#"{{"methodConfig":[{{"name":[{method}],"timeout":"{timeout}"}}]}}"#);
        configured(&server, &json)
    };
    let answer = call(&channel_with("60s"), "in time").await;
    answer.expect("an answer");
    let told = server
        .seen
        .timeout
        .lock()
        .expect("no panic holds it")
        .clone();
    let micros = told.strip_suffix('u').map(str::parse::<u32>);
    assert!(
        matches!(micros, Some(Ok(1..=60_000_000))),
        "the server was told what was left: {told}"
    );
    let status = call(&channel_with("0.1s"), "forever").await;
    assert_eq!(status.expect_err("too slow").code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_call_and_leaves_nothing_behind() {
    let (server, channel) = one().await;
    for _ in 0..50 {
        let call = tokio::spawn({
            let mut client = client(&channel);
            async move {
                client
                    .say_hello(Request::new(HelloRequest {
                        name: "forever".into(),
                    }))
                    .await
            }
        });
        let stream = client(&channel)
            .say_hello_stream_reply(hello("flood"))
            .await
            .expect("a stream");
        until("both handlers run", || {
            server.seen.running.load(Ordering::SeqCst) == 2
        })
        .await;
        call.abort();
        drop(stream);
        until("both handlers have ended", || {
            server.seen.running.load(Ordering::SeqCst) == 0
        })
        .await;
    }
    until("nothing is in flight", || {
        channel
            .explain()
            .endpoints
            .iter()
            .all(|endpoint| endpoint.in_flight == 0)
    })
    .await;
}

#[tokio::test]
async fn a_call_both_of_whose_directions_are_blocked_is_cancelled_when_it_is_dropped() {
    let (server, channel) = one().await;
    let name = "x".repeat(1 << 16);
    let endless = tokio_stream::iter(0..).map(move |_| HelloRequest { name: name.clone() });
    let replies = client(&channel)
        .say_hello_bidi_stream(endless)
        .await
        .expect("a stream");
    // Nobody reads the replies, so the server stops reading the requests.
    until("the handler runs", || {
        server.seen.running.load(Ordering::SeqCst) == 1
    })
    .await;
    drop(replies);
    until("the handler has ended", || {
        server.seen.running.load(Ordering::SeqCst) == 0
    })
    .await;
    until("nothing is in flight", || {
        channel.explain().endpoints[0].in_flight == 0
    })
    .await;
}

#[tokio::test]
async fn a_large_message_and_readers_that_do_not_read_stall_no_other_call() {
    let (_server, channel) = one().await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(
            client(&channel)
                .say_hello_stream_reply(hello("flood"))
                .await
                .expect("a stream"),
        );
    }
    let mut large = client(&channel)
        .max_decoding_message_size(128 << 20)
        .max_encoding_message_size(128 << 20);
    let request = HelloRequest {
        name: "large".into(),
    };
    let (reply, other) = tokio::join!(large.say_hello(request), call(&channel, "small"));
    assert_eq!(
        reply.expect("an answer").into_inner().message.len(),
        64 << 20
    );
    other.expect("an answer");
    let name = "x".repeat(64 << 20);
    let reply = large
        .say_hello(HelloRequest { name })
        .await
        .expect("an answer")
        .into_inner();
    assert!(reply.message.len() > 64 << 20);
}

#[tokio::test]
async fn a_response_tells_who_gave_it_when_its_request_asks_for_that() {
    let (server, channel) = one().await;
    let mut client = client(&channel);
    let silent = client.say_hello(hello("a")).await.expect("an answer");
    assert_eq!(silent.extensions().get::<ServedBy>(), None);
    let mut request = hello("a");
    request.extensions_mut().insert(TellServedBy);
    let telling = client.say_hello(request).await.expect("an answer");
    let by = telling.extensions().get::<ServedBy>();
    assert_eq!(by.expect("it was asked for").address(), &server.address);
}

#[tokio::test]
async fn a_server_is_told_which_program_and_which_library_call_it() {
    let (server, channel) = one().await;
    let told = || {
        let metadata = server.seen.metadata.lock().expect("no panic holds it");
        let told = metadata.get_all("user-agent").iter();
        told.map(|value| value.to_str().expect("ASCII").to_owned())
            .collect::<Vec<_>>()
    };
    call(&channel, "x").await.expect("an answer");
    let this = concat!("grpc-rust-balance/", env!("CARGO_PKG_VERSION"));
    assert_eq!(told(), [this]);
    let mut request = hello("x");
    let shop = "shop/7".parse().expect("a value");
    request.metadata_mut().insert("user-agent", shop);
    let answer = client(&channel).say_hello(request).await;
    answer.expect("an answer");
    assert_eq!(told(), [format!("shop/7 {this}")]);
    let target = format!("static:///{}", server.address);
    let builder = Channel::builder(&target);
    let named = builder.user_agent("market/2").build().expect("a channel");
    call(&named, "x").await.expect("an answer");
    assert_eq!(told(), [format!("market/2 {this}")]);
    for program in ["", "two\nlines", "caf\u{e9}"] {
        let builder = Channel::builder(&target);
        let refused = builder.user_agent(program).build().expect_err("no value");
        assert!(matches!(refused, BuildError::UserAgent { .. }), "{refused}");
    }
}
