//! What comes after the end of an answer.

use std::time::Duration;

use h2::Reason;
use proto::helloworld::HelloRequest;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::{
    call, client,
    frames::{HEADERS, Script, Wire, framed},
    hello, patient,
    peer::Peer,
    to, until,
};

use super::{Rude, assert_says, in_flight};

#[tokio::test]
async fn a_server_that_sends_its_trailers_twice_has_answered_all_the_same() {
    let rude = Rude::start(|stream| {
        let greeting = framed(0, 0, &[]);
        let script = Script::on(stream).head().data(0, &greeting);
        script.end("0").end("13")
    })
    .await;
    let channel = to(&[rude.address()]);
    let answer = client(&channel).say_hello(hello("rubbish")).await;
    answer.expect("the first status counts");
    // HTTP/2 lets the connection go for that: calls after it get another one.
    for _ in 0..10 {
        let mut request = hello("next");
        request.extensions_mut().insert(balance::WaitForReady(true));
        let answer = client(&channel).say_hello(request).await;
        answer.expect("an answer");
    }
}

#[tokio::test]
async fn a_server_that_closes_its_half_fails_what_it_has_and_gets_no_more_on_that_connection() {
    let peer = Peer::start(|number, socket, address| async move {
        let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
        if number > 0 {
            return wire.greet_all(&address).await.unwrap_or_default();
        }
        wire.asked().await.expect("a call");
        wire.half_close().await.expect("the client is there");
        while let Ok(frame) = wire.next().await {
            assert_ne!(frame.kind, HEADERS, "a call was sent to it");
        }
    })
    .await;
    let channel = to(&[&peer.address]);
    let failed = client(&channel).say_hello(hello("x")).await;
    let status = failed.expect_err("it cannot be answered");
    assert_says(&status, Code::Unavailable, peer.address.as_str());
    let answer = client(&channel).say_hello(patient("next")).await;
    answer.expect("an answer");
}

#[tokio::test]
async fn a_reset_after_the_end_takes_nothing_back() {
    let rude = Rude::start(|stream| {
        let script = Script::on(stream).head().data(0, &framed(0, 0, &[]));
        script.end("0").reset(Reason::NO_ERROR)
    })
    .await;
    let channel = to(&[rude.address()]);
    for _ in 0..10 {
        let answer = client(&channel).say_hello(hello("rubbish")).await;
        answer.expect("it was answered in full");
    }
    call(&channel, "next").await.expect("an answer");
    assert_eq!(rude.connections(), 1);
}

#[tokio::test]
async fn a_server_that_has_heard_enough_ends_an_upload_with_its_answer() {
    let peer = Peer::start(|_, socket, address| async move {
        let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
        while let Ok(stream) = wire.asked_in_part(2).await {
            // RFC 9113, section 8.1: an answer in full, and then the wish to hear no more.
            let script = Script::on(stream).greets("enough", &address);
            let _ = wire.write(script.reset(Reason::NO_ERROR)).await;
        }
    })
    .await;
    let channel = to(&[&peer.address]);
    let endless = tokio_stream::iter(0..).throttle(Duration::from_millis(1));
    let endless = endless.map(|n: u64| HelloRequest {
        name: n.to_string(),
    });
    let replies = client(&channel)
        .say_hello_bidi_stream(Box::pin(endless))
        .await
        .expect("an answer")
        .into_inner();
    let replies: Vec<_> = replies.collect().await;
    assert_eq!(replies.len(), 1, "{replies:?}");
    replies[0].as_ref().expect("a greeting");
    until("the upload has ended", || in_flight(&channel) == 0).await;
}
