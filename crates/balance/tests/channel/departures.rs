//! Servers that send calls away, frame by frame: by GOAWAY in the middle of others, and by `REFUSED_STREAM`.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use h2::Reason;
use proto::helloworld::{HelloReply, HelloRequest};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{Code, Streaming};

use crate::{
    call, client,
    frames::{END_STREAM, Script, Wire, framed, go_away},
    hello,
    peer::Peer,
    to, until, until_ready,
};

/// A peer that follows `script` on its first connection, and greets everybody on all others.
async fn at_first<F>(script: impl Fn(Wire) -> F + Clone + Send + Sync + 'static) -> Peer
where
    F: Future<Output = io::Result<()>> + Send,
{
    Peer::start(move |number, socket, address| {
        let script = script.clone();
        async move {
            let wire = Wire::open(socket).await.expect("an HTTP/2 client");
            // Its end is the client's going.
            let _ = match number {
                0 => script(wire).await,
                _ => wire.greet_all(&address).await,
            };
        }
    })
    .await
}

/// What a server does that leaves while it streams: it begins to answer one call, waits for another, of so many messages,
/// says GOAWAY between the two, and goes on with the first.
async fn leaves_between_two(mut wire: Wire, messages: usize) -> io::Result<()> {
    let message = framed(0, 0, &[]);
    let first = wire.asked().await?.stream;
    let begin = Script::on(first).head().data(0, &message);
    wire.write(begin).await?;
    wire.asked_in_part(messages).await?;
    wire.raw(&go_away(first)).await?;
    wire.write(Script::on(first).data(0, &message)).await?;
    wire.write(Script::on(first).data(0, &message).end("0"))
        .await?;
    while wire.heard().await.is_ok() {}
    Ok(())
}

/// The rest of a stream that began before the server left.
async fn assert_finishes(rest: Streaming<HelloReply>) {
    let rest: Vec<_> = rest.collect().await;
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert!(rest.iter().all(Result::is_ok), "{rest:?}");
}

#[tokio::test]
async fn a_stream_below_the_last_id_of_goaway_finishes_and_a_call_above_it_goes_elsewhere() {
    let peer = at_first(|wire| leaves_between_two(wire, 1)).await;
    let channel = to(&[&peer.address]);
    let mut below = client(&channel)
        .say_hello_stream_reply(hello("below"))
        .await
        .expect("a stream")
        .into_inner();
    below.next().await.expect("goes on").expect("goes on");
    call(&channel, "above").await.expect("answered elsewhere");
    assert_finishes(below).await;
}

#[tokio::test]
async fn a_stream_of_requests_above_the_last_id_of_goaway_goes_elsewhere_whole() {
    let peer = at_first(|wire| leaves_between_two(wire, 2)).await;
    let channel = to(&[&peer.address]);
    let mut below = client(&channel)
        .say_hello_stream_reply(hello("below"))
        .await
        .expect("a stream")
        .into_inner();
    below.next().await.expect("goes on").expect("goes on");
    let (script, requests) = mpsc::unbounded_channel();
    let request = |name: &str| HelloRequest { name: name.into() };
    script.send(request("one")).expect("read");
    script.send(request("two")).expect("read");
    let above = tokio::spawn({
        let mut client = client(&channel);
        let requests = UnboundedReceiverStream::new(requests);
        async move { client.say_hello_bidi_stream(requests).await }
    });
    // The server goes on only once it has seen both, and left.
    assert_finishes(below).await;
    script.send(request("three")).expect("read");
    drop(script);
    let replies = above.await.expect("runs").expect("answered elsewhere");
    let replies: Vec<_> = replies.into_inner().collect().await;
    let reply = replies[0].as_ref().expect("a reply");
    assert!(reply.message.starts_with("Hello 3 from"), "{reply:?}");
}

#[tokio::test]
async fn a_stream_of_replies_that_goaway_cuts_off_is_unavailable_and_not_begun_again() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let peer = Peer::start(move |_, socket, _| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
            let Ok(asked) = wire.asked().await else {
                return;
            };
            let script = Script::on(asked.stream).head();
            let script = script
                .data(0, &framed(0, 0, &[]))
                .raw(&go_away(asked.stream));
            wire.write(script).await.expect("the client is there");
        }
    })
    .await;
    let channel = to(&[&peer.address]);
    let mut cut = client(&channel)
        .say_hello_stream_reply(hello("cut"))
        .await
        .expect("a stream")
        .into_inner();
    cut.next().await.expect("one").expect("one");
    let status = cut.next().await.expect("a status").expect_err("cut off");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains(peer.address.as_str()), "{status}");
    // It is connected again for whoever calls next, and nobody has.
    until("it is connected again", || {
        connections.load(Ordering::SeqCst) == 2
    })
    .await;
    until_ready(&channel, 1).await;
}

/// Refuses the first stream of its connection, and greets all others.
async fn refuses_once(mut wire: Wire, messages: usize, peer: registry::Address) -> io::Result<()> {
    let refused = wire.asked_in_part(messages).await?;
    let script = Script::on(refused).reset(Reason::REFUSED_STREAM);
    wire.write(script).await?;
    wire.greet_all(&peer).await
}

#[tokio::test]
async fn a_call_that_its_only_server_refuses_once_is_answered_at_its_second_try() {
    let peer = Peer::start(|_, socket, address| async move {
        let wire = Wire::open(socket).await.expect("an HTTP/2 client");
        let _ = refuses_once(wire, 1, address).await;
    })
    .await;
    let channel = to(&[&peer.address]);
    call(&channel, "hello").await.expect("the second try");
    assert_eq!(channel.explain().endpoints[0].picks, 2);
}

#[tokio::test]
async fn a_stream_of_requests_that_is_refused_once_is_sent_again_whole() {
    let peer = Peer::start(|_, socket, address| async move {
        let wire = Wire::open(socket).await.expect("an HTTP/2 client");
        let _ = refuses_once(wire, 2, address).await;
    })
    .await;
    let names = ["one", "two", "three"].map(|name| HelloRequest { name: name.into() });
    let replies = client(&to(&[&peer.address]))
        .say_hello_bidi_stream(tokio_stream::iter(names))
        .await
        .expect("the second try");
    let replies: Vec<_> = replies.into_inner().collect().await;
    let reply = replies[0].as_ref().expect("a reply");
    assert!(reply.message.starts_with("Hello 3 from"), "{reply:?}");
}

#[tokio::test]
async fn a_refusal_after_the_response_has_begun_is_final() {
    let peer = at_first(|mut wire| async move {
        let stream = wire.asked().await?.stream;
        let script = Script::on(stream).head().data(0, &framed(0, 0, &[]));
        wire.write(script.reset(Reason::REFUSED_STREAM)).await?;
        while let Ok(heard) = wire.heard().await {
            assert!(heard.flags & END_STREAM == 0 || heard.stream == stream);
        }
        Ok(())
    })
    .await;
    let channel = to(&[&peer.address]);
    let replies = client(&channel)
        .say_hello_stream_reply(hello("hello"))
        .await
        .expect("a stream");
    let replies: Vec<_> = replies.into_inner().collect().await;
    let status = replies[1].as_ref().expect_err("refused");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(channel.explain().endpoints[0].picks, 1);
}
