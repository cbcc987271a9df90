//! Attempts beside one another (gRFC A6, "Hedging"), unary and streaming.

use std::{collections::BTreeSet, future::poll_fn, time::Duration};

use balance::Channel;
use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue};
use proto::helloworld::HelloRequest;
use registry::Address;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::{Code, Request, Status};

use crate::{
    BOUND, bound, client,
    frames::greeting,
    hello,
    peer::{Peer, Seen, greet, handshake, open, refuse},
    until_ready,
};

/// Peers that do with each call as they are told.
struct Fleet {
    peers: Vec<Peer>,
    calls: mpsc::UnboundedReceiver<Asked>,
}

/// One attempt, as its peer has it.
struct Asked {
    at: Address,
    previous: Option<String>,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    seen: Seen,
}

impl Fleet {
    async fn start(size: usize) -> Self {
        let (tell, calls) = mpsc::unbounded_channel();
        let mut peers = Vec::new();
        for _ in 0..size {
            let tell = tell.clone();
            let peer = Peer::start(move |_, socket, address| {
                let tell = tell.clone();
                async move {
                    let mut connection = handshake(socket).await;
                    let seen = Seen::on(&mut connection);
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let previous = request.headers().get("grpc-previous-rpc-attempts");
                        let asked = Asked {
                            at: address.clone(),
                            previous: previous.map(|n| n.to_str().expect("a number").to_owned()),
                            body: request.into_body(),
                            respond,
                            seen: seen.clone(),
                        };
                        tell.send(asked).expect("the test goes on");
                    }
                }
            });
            peers.push(peer.await);
        }
        Self { peers, calls }
    }

    /// Up to three attempts, each so much after the last.
    async fn channel(&self, delay: &str) -> Channel {
        self.throttled(delay, r#"{"maxTokens":1000,"tokenRatio":1}"#)
            .await
    }

    /// The same with such `retryThrottling`.
    async fn throttled(&self, delay: &str, throttling: &str) -> Channel {
        let addresses: Vec<_> = self.peers.iter().map(|peer| &peer.address).collect();
        let config = format!(
            r#"{{"loadBalancingConfig":[{{"round_robin":{{}}}}],"retryThrottling":{throttling},"methodConfig":[{{"name":[{{}}],"hedgingPolicy":
                {{"maxAttempts":3,"hedgingDelay":"{delay}","nonFatalStatusCodes":["UNAVAILABLE"]}}}}]}}"#
        );
        let list: Vec<_> = addresses.iter().map(|address| address.as_str()).collect();
        let channel = Channel::builder(format!("static:///{}", list.join(",")))
            .service_config(config)
            .descriptors(proto::DESCRIPTORS)
            .build()
            .expect("a channel");
        until_ready(&channel, addresses.len()).await;
        channel
    }

    async fn asked(&mut self) -> Asked {
        let asked = timeout(BOUND, self.calls.recv()).await;
        asked.expect("an attempt").expect("the peers live")
    }
}

impl Asked {
    /// Reads so many bytes of the request, or up to its end.
    async fn read(&mut self, bytes: usize) {
        let mut come = 0;
        while come < bytes
            && let Some(data) = self.body.data().await
        {
            let data = data.expect("the client goes on");
            come += data.len();
            let control = self.body.flow_control();
            control.release_capacity(data.len()).expect("it came");
        }
    }

    /// Waits until the client has cancelled it.
    async fn cancelled(&mut self) {
        let reset = timeout(BOUND, poll_fn(|cx| self.respond.poll_reset(cx)));
        let reason = reset.await.expect("it is cancelled").expect("it is reset");
        assert_eq!(reason, Reason::CANCEL);
    }

    fn answers(self) {
        greet(self.respond, "hello", &self.at);
    }

    fn fails(self, code: Code) {
        refuse(self.respond, code, "not%20yet");
    }
}

type Answer = JoinHandle<Result<String, Status>>;

fn unary(channel: &Channel) -> Answer {
    asks(channel, hello("hello"))
}

fn asks(channel: &Channel, request: Request<HelloRequest>) -> Answer {
    let mut client = client(channel);
    tokio::spawn(async move {
        let answer = client.say_hello(request).await?;
        Ok(answer.into_inner().message)
    })
}

/// A stream of 400 KiB, which is more than is kept of it.
fn large_stream(channel: &Channel) -> Answer {
    let mut client = client(channel);
    let requests = (0..400).map(|_| HelloRequest {
        name: "x".repeat(1 << 10),
    });
    tokio::spawn(async move {
        let replies = client.say_hello_bidi_stream(tokio_stream::iter(requests));
        let first = replies.await?.into_inner().message().await?;
        Ok(first.expect("a reply").message)
    })
}

async fn ended(answer: Answer) -> Result<String, Status> {
    let ended = timeout(BOUND, answer).await.expect("the call ends");
    ended.expect("runs")
}

const SOON: &str = "0.02s";
/// Long enough to read a stream.
const LATER: &str = "0.5s";
const NEVER: &str = "3600s";

#[tokio::test]
async fn a_hedge_goes_to_another_endpoint_and_the_attempt_that_is_slower_is_cancelled() {
    let mut fleet = Fleet::start(2).await;
    let call = unary(&fleet.channel(SOON).await);
    let mut first = fleet.asked().await;
    let second = fleet.asked().await;
    assert_ne!(first.at, second.at);
    assert_eq!(
        (&first.previous, second.previous.as_deref()),
        (&None, Some("1"))
    );
    let expected = format!("Hello hello from {}", second.at);
    second.answers();
    assert_eq!(ended(call).await.expect("an answer"), expected);
    first.cancelled().await;
}

#[tokio::test]
async fn who_has_begun_to_answer_is_waited_for_whatever_another_says() {
    let mut fleet = Fleet::start(2).await;
    let call = unary(&fleet.channel(SOON).await);
    let (first, second) = (fleet.asked().await, fleet.asked().await);
    let mut answer = open(first.respond);
    answer
        .send_data(greeting("hello", &first.at).into(), false)
        .expect("the client goes on");
    first.seen.by_the_client().await;
    let failure = second.seen.clone();
    second.fails(Code::Internal);
    failure.by_the_client().await;
    assert!(!call.is_finished(), "it waits");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    answer.send_trailers(trailers).expect("the client goes on");
    let expected = format!("Hello hello from {}", first.at);
    assert_eq!(ended(call).await.expect("an answer"), expected);
}

#[tokio::test]
async fn no_endpoint_gets_two_attempts_of_a_call_while_there_is_another() {
    let mut fleet = Fleet::start(3).await;
    let channel = fleet.channel(SOON).await;
    // All of them would go where the call is bound to.
    let to = fleet.peers[0].address.clone();
    let call = asks(&channel, bound("hello", &to));
    let attempts = [
        fleet.asked().await,
        fleet.asked().await,
        fleet.asked().await,
    ];
    let first = attempts.iter().find(|asked| asked.previous.is_none());
    assert_eq!(first.expect("a first attempt").at, to);
    let at: BTreeSet<_> = attempts.iter().map(|asked| asked.at.as_str()).collect();
    assert_eq!(at.len(), 3, "{at:?}");
    let [any, ..] = attempts;
    any.answers();
    ended(call).await.expect("an answer");
}

#[tokio::test]
async fn a_deadline_between_two_hedges_ends_the_call() {
    const DEADLINE: Duration = Duration::from_secs(5);
    let mut fleet = Fleet::start(2).await;
    let channel = fleet.channel(NEVER).await;
    let mut request = hello("hello");
    request.set_timeout(DEADLINE);
    let began = Instant::now();
    let call = asks(&channel, request);
    let mut first = fleet.asked().await;
    tokio::time::pause();
    let status = ended(call).await.expect_err("nobody answers");
    let took = began.elapsed();
    tokio::time::resume();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let at_the_deadline = DEADLINE..DEADLINE + Duration::from_secs(1);
    assert!(at_the_deadline.contains(&took), "{took:?}");
    first.cancelled().await;
    assert!(fleet.calls.try_recv().is_err(), "it was not sent again");
}

#[tokio::test]
async fn a_failure_that_is_not_fatal_has_the_next_sent_at_once_and_one_that_is_ends_the_call() {
    let mut fleet = Fleet::start(2).await;
    let call = unary(&fleet.channel(NEVER).await);
    let first = fleet.asked().await;
    first.fails(Code::Unavailable);
    let second = fleet.asked().await;
    second.fails(Code::InvalidArgument);
    let status = ended(call).await.expect_err("it is fatal");
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "not yet")
    );
}

#[tokio::test]
async fn the_failure_of_one_attempt_leaves_the_other_to_answer() {
    let mut fleet = Fleet::start(3).await;
    let call = unary(&fleet.channel(SOON).await);
    let (first, second) = (fleet.asked().await, fleet.asked().await);
    let third = fleet.asked().await;
    third.fails(Code::Unavailable);
    first.fails(Code::Unavailable);
    let expected = format!("Hello hello from {}", second.at);
    second.answers();
    assert_eq!(ended(call).await.expect("an answer"), expected);
}

/// How many attempts a call makes that all fail.
async fn attempts(fleet: &mut Fleet, channel: &Channel) -> usize {
    let call = unary(channel);
    let mut attempts = 0;
    let ended = ended(call);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            asked = fleet.asked() => asked.fails(Code::Unavailable),
            ended = &mut ended => {
                ended.expect_err("all have failed");
                return attempts;
            }
        }
        attempts += 1;
    }
}

#[tokio::test]
async fn a_service_that_fails_too_much_is_sent_no_hedges_until_it_has_answered() {
    let mut fleet = Fleet::start(3).await;
    let tokens = r#"{"maxTokens":4,"tokenRatio":1}"#;
    let channel = fleet.throttled(NEVER, tokens).await;
    // There are hedges while more than two tokens are left.
    assert_eq!(
        attempts(&mut fleet, &channel).await,
        2,
        "to three, and to two"
    );
    assert_eq!(attempts(&mut fleet, &channel).await, 1, "to one");
    for _ in 0..3 {
        let call = unary(&channel);
        fleet.asked().await.answers();
        ended(call).await.expect("an answer");
    }
    assert_eq!(
        attempts(&mut fleet, &channel).await,
        2,
        "all were there again"
    );
}

/// The first attempt of a large stream, which reads nothing and is cancelled, and the hedge that reads on alone.
async fn outgrown() -> (Fleet, Answer, Asked) {
    let mut fleet = Fleet::start(2).await;
    let call = large_stream(&fleet.channel(LATER).await);
    let mut first = fleet.asked().await;
    let mut second = fleet.asked().await;
    second.read(300 << 10).await;
    first.cancelled().await;
    (fleet, call, second)
}

#[tokio::test]
async fn a_stream_that_outgrows_its_buffer_goes_on_at_the_attempt_that_read_furthest() {
    let (_fleet, call, mut second) = outgrown().await;
    second.read(usize::MAX).await;
    let expected = format!("Hello hello from {}", second.at);
    second.answers();
    assert_eq!(ended(call).await.expect("an answer"), expected);
}

#[tokio::test]
async fn the_failure_of_the_attempt_that_read_furthest_is_the_calls() {
    let (mut fleet, call, second) = outgrown().await;
    second.fails(Code::Unavailable);
    let status = ended(call).await.expect_err("nobody else has the stream");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "not yet")
    );
    assert!(fleet.calls.try_recv().is_err(), "it cannot be sent again");
}
