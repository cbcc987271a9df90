//! When a call is committed to a server that goes away in the middle of its answer: to one that is known to be a single message,
//! only once it is whole.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance::{BuildError, Channel};
use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue};
use prost::Message;
use proto::helloworld::HelloReply;
use tokio::{sync::mpsc, time::sleep};
use tonic::Code;

use crate::{
    call, client,
    frames::{Script, Wire, framed, greeting},
    hello,
    peer::{Peer, open},
    until_ready,
};

const RETRIED: &str = r#""retryPolicy":{"maxAttempts":3,"initialBackoff":"0.01s","maxBackoff":"0.01s","backoffMultiplier":1,
    "retryableStatusCodes":["UNAVAILABLE"]}"#;
const HEDGED: &str = r#""hedgingPolicy":{"maxAttempts":3,"hedgingDelay":"3600s","nonFatalStatusCodes":["UNAVAILABLE"]}"#;
const ONCE: &str = r#""waitForReady":true"#;
/// More than is kept back of an answer.
const LARGE: usize = 300 << 10;

/// How much of its first answer a server writes before it goes.
#[derive(Debug, Clone, Copy)]
enum Written {
    Head,
    Message,
    /// A message so large.
    Much(usize),
    /// All, but then the server says that it has failed.
    Failure,
}

/// A server that goes away in the middle of its first answer, and answers all others.
struct Leaver {
    peer: Peer,
    asked: Arc<AtomicUsize>,
}

impl Leaver {
    async fn after(written: Written) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let peer = Peer::start(move |number, socket, address| {
            let count = Arc::clone(&count);
            async move {
                let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
                while let Ok(asked) = wire.asked().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let script = Script::on(asked.stream);
                    let name = asked.names.concat();
                    let answered = match (number, written) {
                        (0, Written::Head) => wire.write(script.head()).await.and(gone()),
                        (0, Written::Message) => {
                            let message = greeting(&name, &address);
                            wire.write(script.head().data(0, &message))
                                .await
                                .and(gone())
                        }
                        (0, Written::Much(length)) => {
                            wire.write(much(script.head(), length)).await.and(gone())
                        }
                        (0, Written::Failure) => wire.write(script.head().end("14")).await,
                        _ => wire.write(script.greets(&name, &address)).await,
                    };
                    if answered.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { peer, asked }
    }

    /// A channel to it under such a method config, which knows the descriptors.
    async fn called(&self, method_config: &str) -> Channel {
        let config = format!(r#"{{"methodConfig":[{{"name":[{{}}],{method_config}}}]}}"#);
        let channel = Channel::builder(format!("static:///{}", self.peer.address))
            .service_config(config)
            .descriptors(proto::DESCRIPTORS)
            .build()
            .expect("a channel");
        until_ready(&channel, 1).await;
        channel
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn gone() -> io::Result<()> {
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// The beginning of an answer, of which a byte is missing.
fn much(script: Script, length: usize) -> Script {
    let message = vec![b'x'; length];
    let whole = framed(
        0,
        u32::try_from(length + 1).expect("short enough"),
        &message,
    );
    let pieces = whole.chunks(16 << 10);
    pieces.fold(script, |script, piece| script.data(0, piece))
}

#[tokio::test]
async fn a_call_whose_server_goes_between_the_head_of_its_answer_and_the_message_is_answered_elsewhere()
 {
    let server = Leaver::after(Written::Head).await;
    let channel = server.called(RETRIED).await;
    call(&channel, "world").await.expect("answered");
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_call_whose_server_goes_before_it_has_said_that_all_is_well_is_answered_elsewhere() {
    let server = Leaver::after(Written::Message).await;
    let channel = server.called(RETRIED).await;
    call(&channel, "world").await.expect("answered");
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_hedged_call_is_committed_to_a_whole_answer_as_well() {
    let server = Leaver::after(Written::Message).await;
    let channel = server.called(HEDGED).await;
    call(&channel, "world").await.expect("answered");
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_call_that_no_policy_has_made_again_fails_with_its_server() {
    let server = Leaver::after(Written::Head).await;
    let channel = server.called(ONCE).await;
    let status = call(&channel, "world").await.expect_err("cut off");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_be_kept_back_is_committed_to_before_it_is_whole() {
    let server = Leaver::after(Written::Much(LARGE)).await;
    let channel = server.called(RETRIED).await;
    let status = call(&channel, "world").await.expect_err("cut off");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_failure_that_a_server_tells_after_the_head_is_its_answer() {
    // gRFC A6: with the head, it has said that it answers.
    let server = Leaver::after(Written::Failure).await;
    let channel = server.called(RETRIED).await;
    let status = call(&channel, "world").await.expect_err("it has failed");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(server.asked(), 1);
}

/// A server that begins each answer, and leaves the rest of it to the test.
async fn beginning() -> (Leaver, mpsc::UnboundedReceiver<SendStream<Bytes>>) {
    let (tell, begun) = mpsc::unbounded_channel();
    let peer = Peer::answering(move |respond| {
        tell.send(open(respond)).expect("the test goes on");
    })
    .await;
    let asked = Arc::default();
    (Leaver { peer, asked }, begun)
}

#[tokio::test]
async fn a_single_answer_that_comes_in_pieces_reaches_its_caller_in_one() {
    let (server, mut begun) = beginning().await;
    let channel = server.called(RETRIED).await;
    let message = greeting("world", &server.peer.address);
    let (first, second) = message.split_at(7);
    let call = tokio::spawn(async move { call(&channel, "world").await });
    let mut answer = begun.recv().await.expect("it is asked");
    for piece in [first, second] {
        answer
            .send_data(Bytes::copy_from_slice(piece), false)
            .expect("the client goes on");
        // Long enough for the piece to be there alone.
        sleep(Duration::from_millis(20)).await;
        assert!(!call.is_finished());
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    answer.send_trailers(trailers).expect("the client goes on");
    call.await.expect("runs").expect("answered");
}

#[tokio::test]
async fn the_head_of_a_stream_of_answers_does_not_wait_for_the_first_of_them() {
    let (server, mut begun) = beginning().await;
    let channel = server.called(RETRIED).await;
    let streaming = client(&channel)
        .say_hello_stream_reply(hello("world"))
        .await
        .expect("the head is there");
    drop(begun.recv().await.expect("it is asked"));
    let end = streaming.into_inner().message().await;
    end.expect_err("it was cut off, and is not begun again");
}

#[tokio::test]
async fn an_answer_that_is_not_whole_in_time_is_late() {
    let (server, mut begun) = beginning().await;
    let channel = server.called(RETRIED).await;
    let mut request = hello("world");
    request.set_timeout(Duration::from_millis(50));
    let status = client(&channel).say_hello(request).await;
    let status = status.expect_err("it never ends");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let mut answer = begun.recv().await.expect("it is asked");
    let reset = poll_fn(|cx| answer.poll_reset(cx)).await;
    assert_eq!(reset.expect("it is cancelled"), Reason::CANCEL);
}

#[tokio::test]
async fn a_large_answer_is_whole_whatever_was_kept_back_of_it() {
    let (server, mut begun) = beginning().await;
    let channel = server.called(RETRIED).await;
    let message = "x".repeat(3 * LARGE);
    let reply = HelloReply {
        message: message.clone(),
    }
    .encode_to_vec();
    let framed = framed(0, u32::try_from(reply.len()).expect("short enough"), &reply);
    let mut client = client(&channel);
    let call = tokio::spawn(async move { client.say_hello(hello("world")).await });
    let mut answer = begun.recv().await.expect("it is asked");
    answer
        .send_data(framed.into(), false)
        .expect("the client goes on");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    answer.send_trailers(trailers).expect("the client goes on");
    let reply = call.await.expect("runs").expect("answered");
    assert!(reply.into_inner().message == message, "every byte of it");
}

#[tokio::test]
async fn descriptors_that_are_none_are_refused() {
    let channel = Channel::builder("static:///127.0.0.1:1").descriptors(b"\x0a\xff");
    let error = channel.build().expect_err("they cannot be decoded");
    assert!(matches!(error, BuildError::Descriptors(_)), "{error}");
}
