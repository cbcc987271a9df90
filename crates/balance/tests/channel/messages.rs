//! How large a message may be, as the service config says.

use std::sync::atomic::Ordering;

use balance::Channel;
use proto::helloworld::{HelloReply, HelloRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{client, server::Server, to_with};

/// In bytes.
const LIMIT: usize = 100;

/// What a message has beside its one text: a field's number, and a length below 128.
const FIELD: usize = 2;

/// A call of several messages.
struct Conversation {
    send: mpsc::Sender<HelloRequest>,
    replies: Streaming<HelloReply>,
}

impl Conversation {
    async fn begin(channel: &Channel) -> Self {
        let (send, requests) = mpsc::channel(1);
        let requests = ReceiverStream::new(requests);
        let replies = client(channel).say_hello_bidi_stream(requests).await;
        let replies = replies.expect("a stream").into_inner();
        Self { send, replies }
    }

    async fn ask(&mut self, request: HelloRequest) -> Result<HelloReply, Status> {
        self.send.send(request).await.expect("the call goes on");
        let reply = self.replies.message().await?;
        Ok(reply.expect("the call goes on"))
    }
}

/// Shows that what is larger than `setting` allows fails its call, and nothing else on its connection.
async fn refuses(server: &Server, setting: &str, sized: impl Fn(usize) -> HelloRequest) {
    let config = format!(r#"{{"methodConfig":[{{"name":[{{}}],"{setting}":{LIMIT}}}]}}"#);
    let channel = to_with(&[&server.address], &config);
    let mut other = Conversation::begin(&channel).await;
    let mut stream = Conversation::begin(&channel).await;
    let unary = client(&channel).say_hello(sized(LIMIT)).await;
    unary.expect("just as large as may be");
    let streamed = stream.ask(sized(LIMIT)).await;
    streamed.expect("just as large as may be");
    let unary = client(&channel).say_hello(sized(LIMIT + 1)).await;
    let streamed = stream.ask(sized(LIMIT + 1)).await;
    for refused in [unary.map(tonic::Response::into_inner), streamed] {
        let refused = refused.expect_err("a byte too large");
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        let size = LIMIT + 1;
        let says = format!("of {size} bytes is larger than the {LIMIT} that {setting} allows");
        assert!(refused.message().contains(&says), "{refused}");
    }
    let goes_on = other.ask(sized(LIMIT)).await;
    goes_on.expect("the connection is as it was");
}

fn asking(letters: usize) -> HelloRequest {
    HelloRequest {
        name: "x".repeat(letters),
    }
}

#[tokio::test]
async fn a_request_message_that_is_too_large_fails_its_call_before_it_is_sent() {
    let server = Server::start().await;
    let sized = |bytes| asking(bytes - FIELD);
    refuses(&server, "maxRequestMessageBytes", sized).await;
    let unary = server.seen.calls.load(Ordering::SeqCst);
    assert_eq!(unary, 1, "the other never came");
}

#[tokio::test]
async fn a_response_message_that_is_too_large_fails_its_call() {
    let server = Server::start().await;
    let rest = format!("Hello  from {}", server.address).len();
    let sized = |bytes| asking(bytes - FIELD - rest);
    refuses(&server, "maxResponseMessageBytes", sized).await;
}
