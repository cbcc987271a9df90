//! Request streams that are sent again, and those that cannot be produced.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use balance::Channel;
use bytes::Bytes;
use http_body::{Body, Frame};
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tonic::Code;

use crate::{
    client, hello,
    peer::{Peer, greet, handshake, open, refuse},
    server::Server,
};

const RETRIES: &str = r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":2,"initialBackoff":"0.01s",
    "maxBackoff":"0.01s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE","CANCELLED","INTERNAL"]}}]}"#;

fn retrying(peer: &Peer) -> Channel {
    Channel::builder(format!("static:///{}", peer.address))
        .service_config(RETRIES)
        .build()
        .expect("a channel")
}

/// Refuses each first call after `after` bytes of its request, and greets with how long the next request is.
async fn refuses_the_first(after: usize) -> Peer {
    Peer::start(move |_, socket, address| async move {
        let mut connection = handshake(socket).await;
        let mut calls = tokio::task::JoinSet::new();
        let mut first = true;
        while let Some(Ok((request, respond))) = connection.accept().await {
            let refuses = std::mem::replace(&mut first, false);
            let address = address.clone();
            calls.spawn(async move {
                let mut body = request.into_body();
                let mut come = 0;
                while !refuses || come < after {
                    let Some(data) = body.data().await else { break };
                    let Ok(data) = data else { return };
                    let _ = body.flow_control().release_capacity(data.len());
                    come += data.len();
                }
                if refuses {
                    refuse(respond, Code::Unavailable, "not%20yet");
                } else {
                    greet(respond, &come.to_string(), &address);
                }
            });
        }
    })
    .await
}

fn message(size: usize) -> HelloRequest {
    HelloRequest {
        name: "x".repeat(size),
    }
}

#[tokio::test]
async fn a_stream_that_was_refused_in_the_middle_is_sent_again_from_its_beginning() {
    let peer = refuses_the_first(2_000).await;
    let (script, requests) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..4 {
        script.send(message(1_000)).expect("read");
    }
    let call = tokio::spawn({
        let mut client = client(&retrying(&peer));
        async move {
            client
                .say_hello_bidi_stream(UnboundedReceiverStream::new(requests))
                .await
        }
    });
    script.send(message(1_000)).expect("read");
    drop(script);
    let replies = call.await.expect("runs").expect("the second attempt");
    let replies = replies.into_inner().collect::<Vec<_>>().await;
    let reply = replies[0].as_ref().expect("a reply");
    let sent = 5 * (5 + 3 + 1_000);
    assert!(
        reply.message.starts_with(&format!("Hello {sent} from")),
        "{reply:?}"
    );
}

#[tokio::test]
async fn a_stream_that_has_outgrown_its_buffer_is_not_sent_again() {
    let peer = refuses_the_first(300 << 10).await;
    let requests = tokio_stream::iter((0..400).map(|_| message(1 << 10)));
    let status = client(&retrying(&peer))
        .say_hello_bidi_stream(requests)
        .await
        .expect_err("committed to the first attempt");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "not yet")
    );
}

/// The first part of a message, and then nothing any more.
struct Breaks(bool);

impl Body for Breaks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(Some(if std::mem::replace(&mut self.0, true) {
            Err(std::io::Error::other("the disk is gone"))
        } else {
            Ok(Frame::data(Bytes::from_static(&[0, 0])))
        }))
    }
}

#[tokio::test]
async fn a_stream_that_breaks_before_the_response_tells_its_caller_why() {
    let server = Server::start().await;
    let channel = Channel::builder(format!("static:///{}", server.address))
        .service_config(RETRIES)
        .build()
        .expect("a channel");
    let broken = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
        let mut channel = channel.clone();
        let request = request.map(|_| Breaks(false));
        async move { tower::Service::call(&mut channel, request).await }
    });
    let status = GreeterClient::new(broken)
        .say_hello(hello("x"))
        .await
        .expect_err("no request");
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::Internal,
            "the request could not be produced: the disk is gone"
        )
    );
}

#[tokio::test]
async fn a_stream_that_breaks_after_the_response_has_begun_tells_its_caller_why() {
    let peer = Peer::start(|_, socket, _| async move {
        let mut connection = handshake(socket).await;
        let mut streams = Vec::new();
        while let Some(Ok((request, respond))) = connection.accept().await {
            streams.push((request, open(respond)));
        }
    })
    .await;
    let (script, body) = tokio::sync::mpsc::unbounded_channel();
    let body = UnboundedReceiverStream::new(body);
    let broken = tower::service_fn({
        let channel = retrying(&peer);
        let body = std::sync::Mutex::new(Some(Scripted(body)));
        move |request: http::Request<tonic::body::Body>| {
            let mut channel = channel.clone();
            let body = body.lock().expect("no panic").take().expect("one call");
            let request = request.map(|_| body);
            async move { tower::Service::call(&mut channel, request).await }
        }
    });
    let mut replies = GreeterClient::new(broken)
        .say_hello_stream_reply(hello("x"))
        .await
        .expect("a response")
        .into_inner();
    script
        .send(Err(std::io::Error::other("the disk is gone")))
        .expect("read");
    let status = replies.next().await.expect("a status").expect_err("broken");
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::Internal,
            "the request could not be produced: the disk is gone"
        )
    );
}

/// A body that yields what it is sent.
struct Scripted(UnboundedReceiverStream<std::io::Result<Frame<Bytes>>>);

impl Body for Scripted {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        tokio_stream::Stream::poll_next(Pin::new(&mut self.0), cx)
    }
}
