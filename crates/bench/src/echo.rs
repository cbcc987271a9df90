//! The greeter that is called: gives back what it was given.

use std::pin::Pin;

use proto::helloworld::{HelloReply, HelloRequest, greeter_server::Greeter};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

/// How many answers a stream gets, when it is not one for each message: a number, in the call's metadata.
pub(crate) const ANSWERS: &str = "answers";

pub(crate) struct Echo;

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Echo {
    type SayHelloStreamReplyStream = Replies;
    type SayHelloBidiStreamStream = Replies;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(echo(request.into_inner())))
    }

    /// As many copies as the metadata asks for.
    async fn say_hello_stream_reply(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<Replies>, Status> {
        let answers = answers(request.metadata())?.unwrap_or(1);
        let reply = echo(request.into_inner());
        let replies = std::iter::repeat_n(reply, answers).map(Ok);
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }

    /// A reply to each message, or, when the metadata asks for one answer, how many messages there were.
    async fn say_hello_bidi_stream(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let once = answers(request.metadata())? == Some(1);
        let mut messages = request.into_inner();
        if !once {
            return Ok(Response::new(Box::pin(messages.map(|m| m.map(echo)))));
        }
        let mut count = 0_usize;
        while messages.message().await?.is_some() {
            count += 1;
        }
        let message = count.to_string();
        let reply = tokio_stream::once(Ok(HelloReply { message }));
        Ok(Response::new(Box::pin(reply)))
    }
}

fn echo(request: HelloRequest) -> HelloReply {
    HelloReply {
        message: request.name,
    }
}

fn answers(metadata: &MetadataMap) -> Result<Option<usize>, Status> {
    let Some(value) = metadata.get(ANSWERS) else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Status::invalid_argument(format!("{ANSWERS} {value:?} is no number")))
}
