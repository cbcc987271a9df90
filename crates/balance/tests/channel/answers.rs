//! Answers that no gRPC server should give, each from a peer that gives it to every call.

use http::Response;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::{
    call, client, hello,
    peer::{Peer, open},
    server::Server,
    to, until_ready,
};

#[tokio::test]
async fn an_answer_that_is_not_grpc_fails_its_call_by_what_its_http_status_means() {
    let peer = Peer::answering(|mut respond| {
        let response = Response::builder()
            .status(503)
            .body(())
            .expect("a response");
        respond.send_response(response, true).expect("open");
    })
    .await;
    let channel = to(&[&peer.address]);
    for _ in 0..3 {
        let status = call(&channel, "hello").await.expect_err("no gRPC there");
        assert_eq!(status.code(), Code::Unavailable, "503 means UNAVAILABLE");
        assert!(status.message().contains("503"), "{status}");
    }
}

#[tokio::test]
async fn a_status_that_is_given_counts_more_than_http() {
    let peer = Peer::answering(|mut respond| {
        let response = Response::builder()
            .status(503)
            .header("grpc-status", "8")
            .body(())
            .expect("a response");
        respond.send_response(response, true).expect("open");
    })
    .await;
    let status = call(&to(&[&peer.address]), "hello")
        .await
        .expect_err("refused");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn a_stream_that_ends_without_a_status_is_an_internal_error() {
    let peer = Peer::answering(|respond| {
        open(respond)
            .send_data(bytes::Bytes::new(), true)
            .expect("open");
    })
    .await;
    let status = call(&to(&[&peer.address]), "hello")
        .await
        .expect_err("no status");
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().contains("without a status"), "{status}");
}

#[tokio::test]
async fn trailers_without_a_status_are_no_success() {
    let peer = Peer::answering(|respond| {
        let trailers = http::HeaderMap::from_iter([("x-other".parse().expect("a name"), 1.into())]);
        open(respond).send_trailers(trailers).expect("open");
    })
    .await;
    let channel = to(&[&peer.address]);
    let stream = client(&channel)
        .say_hello_stream_reply(hello("hello"))
        .await
        .expect("a stream");
    let end = stream.into_inner().next().await;
    assert!(matches!(end, Some(Err(_))), "{end:?}");
}

#[tokio::test]
async fn rubbish_fails_its_call_and_takes_no_other_down() {
    let rubbish = bytes::Bytes::from_static(&[7; 32]);
    let peer = Peer::answering(move |respond| {
        open(respond)
            .send_data(rubbish.clone(), true)
            .expect("open");
    })
    .await;
    let server = Server::start().await;
    let channel = to(&[&peer.address, &server.address]);
    until_ready(&channel, 2).await;
    let mut answered = 0;
    for _ in 0..10 {
        match call(&channel, "hello").await {
            Ok(_) => answered += 1,
            Err(status) => assert_eq!(status.code(), Code::Internal, "{status}"),
        }
    }
    assert_eq!(answered, 5);
}
