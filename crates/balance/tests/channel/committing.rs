//! When a call is committed to a server that goes away in the middle of its answer: to one that is known to be a single message,
//! only once it is whole.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance::{BuildError, Builder, Channel};
use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full};
use prost::Message;
use proto::helloworld::HelloReply;
use tokio::sync::mpsc;
use tonic::{Code, body::Body};
use tower::Service;

use crate::{
    call, client,
    frames::{Script, Wire, asking, framed, greeting},
    hello,
    peer::{Peer, Seen, handshake, open},
    until_ready,
};

const RETRIED: &str = r#""retryPolicy":{"maxAttempts":3,"initialBackoff":"0.01s","maxBackoff":"0.01s","backoffMultiplier":1,
    "retryableStatusCodes":["UNAVAILABLE"]}"#;
const HEDGED: &str = r#""hedgingPolicy":{"maxAttempts":3,"hedgingDelay":"3600s","nonFatalStatusCodes":["UNAVAILABLE"]}"#;
/// Has nothing made again that these tests come to.
const OTHERWISE: &str = r#""retryPolicy":{"maxAttempts":3,"initialBackoff":"0.01s","maxBackoff":"0.01s","backoffMultiplier":1,
    "retryableStatusCodes":["ABORTED"]}"#;
const ONCE: &str = r#""waitForReady":true"#;
/// More than is kept back of an answer.
const LARGE: usize = 400 << 10;

/// How much of its first answer a server writes, and what follows.
#[derive(Debug, Clone, Copy)]
enum Written {
    /// Its head; then it is gone.
    Head,
    /// A message as well.
    Message,
    /// A message so large, but for its last byte.
    Much(usize),
    /// Its head, and then that the server has failed.
    Failure,
    /// A message, and then that the server does not process it.
    Refusal,
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
        let peer = Peer::start(move |_, socket, address| {
            let count = Arc::clone(&count);
            async move {
                let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
                while let Ok(asked) = wire.asked().await {
                    let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
                    let script = Script::on(asked.stream);
                    let name = asked.names.concat();
                    let message = greeting(&name, &address);
                    let (script, stays) = match written {
                        _ if !is_first => (script.greets(&name, &address), true),
                        Written::Head => (script.head(), false),
                        Written::Message => (script.head().data(0, &message), false),
                        Written::Much(length) => (much(script.head(), length), false),
                        Written::Failure => (script.head().end("14"), true),
                        Written::Refusal => {
                            let script = script.head().data(0, &message);
                            (script.reset(Reason::REFUSED_STREAM), true)
                        }
                    };
                    let written = wire.write(script).await;
                    if !stays {
                        // The client sees what has come before it sees the end.
                        wire.seen().await.expect("the client goes on");
                        return;
                    }
                    if written.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { peer, asked }
    }

    fn to(&self, method_config: &str) -> Builder {
        let config = format!(r#"{{"methodConfig":[{{"name":[{{}}],{method_config}}}]}}"#);
        Channel::builder(format!("static:///{}", self.peer.address)).service_config(config)
    }

    /// A channel to it under such a method config, which knows the descriptors.
    async fn called(&self, method_config: &str) -> Channel {
        let builder = self.to(method_config).descriptors(proto::DESCRIPTORS);
        ready(builder).await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A call is answered by who was asked second.
async fn answered_elsewhere(server: &Leaver, channel: &Channel) {
    call(channel, "world").await.expect("answered");
    assert_eq!(server.asked(), 2);
}

/// A call fails with what its server left of the answer, and nobody else is asked.
async fn failed_there(server: &Leaver, channel: &Channel) {
    let status = call(channel, "world").await.expect_err("it is not whole");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(server.asked(), 1);
}

/// A stream has the message that has come, and fails then; nobody else is asked.
async fn failed_after_a_message(server: &Leaver, channel: &Channel) {
    let streaming = client(channel)
        .say_hello_stream_reply(hello("world"))
        .await
        .expect("the head is there");
    let mut answers = streaming.into_inner();
    let first = answers.message().await.expect("it has come");
    first.expect("a message");
    let status = answers.message().await.expect_err("it is not whole");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(server.asked(), 1);
}

async fn ready(builder: Builder) -> Channel {
    let channel = builder.build().expect("a channel");
    until_ready(&channel, 1).await;
    channel
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
    answered_elsewhere(&server, &channel).await;
}

#[tokio::test]
async fn a_call_whose_server_goes_before_it_has_said_that_all_is_well_is_answered_elsewhere() {
    let server = Leaver::after(Written::Message).await;
    let channel = server.called(RETRIED).await;
    answered_elsewhere(&server, &channel).await;
}

#[tokio::test]
async fn a_hedged_call_is_committed_to_a_whole_answer_as_well() {
    let server = Leaver::after(Written::Message).await;
    let channel = server.called(HEDGED).await;
    answered_elsewhere(&server, &channel).await;
}

#[tokio::test]
async fn a_call_that_no_policy_has_made_again_fails_with_its_server() {
    let server = Leaver::after(Written::Head).await;
    let channel = server.called(ONCE).await;
    failed_there(&server, &channel).await;
}

#[tokio::test]
async fn without_descriptors_a_call_is_committed_by_the_head_of_its_answer() {
    let server = Leaver::after(Written::Head).await;
    let channel = ready(server.to(RETRIED)).await;
    failed_there(&server, &channel).await;
}

#[tokio::test]
async fn a_stream_of_answers_is_committed_by_its_head_and_its_messages_are_read() {
    let server = Leaver::after(Written::Message).await;
    let channel = server.called(RETRIED).await;
    failed_after_a_message(&server, &channel).await;
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_an_answer_is_a_failure_and_not_sent_again_for_nothing() {
    let server = Leaver::after(Written::Refusal).await;
    let channel = server.called(OTHERWISE).await;
    failed_there(&server, &channel).await;
}

#[tokio::test]
async fn a_stream_that_is_refused_after_its_first_message_has_that_message() {
    let server = Leaver::after(Written::Refusal).await;
    let channel = server.called(RETRIED).await;
    failed_after_a_message(&server, &channel).await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_be_kept_back_is_committed_to_before_it_is_whole() {
    let server = Leaver::after(Written::Much(LARGE)).await;
    let channel = server.called(RETRIED).await;
    failed_there(&server, &channel).await;
}

#[tokio::test]
async fn a_failure_that_a_server_tells_after_the_head_is_its_answer() {
    // gRFC A6: with the head, it has said that it answers.
    let server = Leaver::after(Written::Failure).await;
    let channel = server.called(RETRIED).await;
    failed_there(&server, &channel).await;
}

/// Says that all is well.
fn well(answer: &mut SendStream<Bytes>) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    answer.send_trailers(trailers).expect("the client goes on");
}

/// A server that begins each answer, and leaves the rest of it to the test.
async fn beginning() -> (Leaver, mpsc::UnboundedReceiver<(SendStream<Bytes>, Seen)>) {
    let (tell, begun) = mpsc::unbounded_channel();
    let peer = Peer::start(move |_, socket, _| {
        let tell = tell.clone();
        async move {
            let mut connection = handshake(socket).await;
            let seen = Seen::on(&mut connection);
            while let Some(Ok((_request, respond))) = connection.accept().await {
                let begun = (open(respond), seen.clone());
                tell.send(begun).expect("the test goes on");
            }
        }
    })
    .await;
    let asked = Arc::default();
    (Leaver { peer, asked }, begun)
}

#[tokio::test]
async fn a_single_answer_that_comes_in_pieces_reaches_its_caller_in_one() {
    let (server, mut begun) = beginning().await;
    let mut channel = server.called(RETRIED).await;
    let request = http::Request::post("http://greeter/helloworld.Greeter/SayHello")
        .header("content-type", "application/grpc")
        .body(Body::new(Full::new(Bytes::from(asking("world")))))
        .expect("a request");
    let answered = tokio::spawn(Service::<http::Request<Body>>::call(&mut channel, request));
    let message = greeting("world", &server.peer.address);
    let (first, second) = message.split_at(7);
    let (mut answer, seen) = begun.recv().await.expect("it is asked");
    for piece in [first, second] {
        answer
            .send_data(Bytes::copy_from_slice(piece), false)
            .expect("the client goes on");
        seen.by_the_client().await;
        assert!(!answered.is_finished(), "it is not whole");
    }
    well(&mut answer);
    let answered = answered.await.expect("runs");
    let Ok(answered) = answered;
    let body = answered.into_body().collect().await;
    let Ok(body) = body;
    assert_eq!(body.trailers().expect("a status")["grpc-status"], "0");
    assert_eq!(body.to_bytes(), message);
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
    end.expect_err("it was cut off");
}

#[tokio::test]
async fn an_answer_that_is_not_whole_in_time_is_late() {
    let (server, mut begun) = beginning().await;
    let channel = server.called(RETRIED).await;
    let mut request = hello("world");
    request.set_timeout(Duration::from_millis(500));
    let status = client(&channel).say_hello(request).await;
    let status = status.expect_err("it never ends");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let (mut answer, _) = begun.recv().await.expect("it is asked");
    let reset = poll_fn(|cx| answer.poll_reset(cx)).await;
    assert_eq!(reset.expect("it is cancelled"), Reason::CANCEL);
}

#[tokio::test]
async fn a_large_answer_is_whole_whatever_was_kept_back_of_it() {
    let (server, mut begun) = beginning().await;
    let channel = server.called(RETRIED).await;
    let numbers: Vec<_> = (0..LARGE / 2).map(|n| n.to_string()).collect();
    let message = numbers.join(" ");
    let reply = HelloReply {
        message: message.clone(),
    }
    .encode_to_vec();
    let framed = framed(0, u32::try_from(reply.len()).expect("short enough"), &reply);
    let mut client = client(&channel);
    let call = tokio::spawn(async move { client.say_hello(hello("world")).await });
    let (mut answer, _) = begun.recv().await.expect("it is asked");
    answer
        .send_data(framed.into(), false)
        .expect("the client goes on");
    well(&mut answer);
    let reply = call.await.expect("runs").expect("answered");
    assert!(reply.into_inner().message == message, "every byte of it");
}

#[tokio::test]
async fn descriptors_that_are_none_are_refused() {
    let channel = Channel::builder("static:///127.0.0.1:1").descriptors(b"\x0a\xff");
    let error = channel.build().expect_err("they cannot be decoded");
    assert!(matches!(error, BuildError::Descriptors(_)), "{error}");
}
