//! Statuses, and what is not there to be called.

use anyhow::{Result, bail, ensure};
use balance::Channel;
use futures_util::{future::ready, stream};
use http::uri::PathAndQuery;
use tonic::{Code, Request, Status, client::Grpc};
use tonic_prost::ProstCodec;

use super::Client;
use crate::testing::{EchoStatus, Empty, SimpleRequest, StreamingOutputCallRequest};

const SPECIAL: &str = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";

pub(super) async fn code_and_message(mut client: Client) -> Result<()> {
    let message = "test status message";
    ensure_unknown(&unary(&mut client, message).await?, message)?;
    ensure_unknown(&duplex(&mut client, message).await?, message)
}

pub(super) async fn special_message(mut client: Client) -> Result<()> {
    ensure_unknown(&unary(&mut client, SPECIAL).await?, SPECIAL)
}

pub(super) async fn unimplemented_method(channel: &Channel) -> Result<()> {
    unimplemented(channel, "/grpc.testing.TestService/UnimplementedCall").await
}

pub(super) async fn unimplemented_service(channel: &Channel) -> Result<()> {
    let path = "/grpc.testing.UnimplementedService/UnimplementedCall";
    unimplemented(channel, path).await
}

async fn unary(client: &mut Client, message: &str) -> Result<Status> {
    let request = SimpleRequest {
        response_status: Some(unknown(message)),
        ..SimpleRequest::default()
    };
    failure(client.unary_call(request).await)
}

async fn duplex(client: &mut Client, message: &str) -> Result<Status> {
    let request = StreamingOutputCallRequest {
        response_status: Some(unknown(message)),
        ..StreamingOutputCallRequest::default()
    };
    let requests = stream::once(ready(request));
    match client.full_duplex_call(requests).await {
        Ok(responses) => failure(responses.into_inner().message().await),
        Err(status) => Ok(status),
    }
}

/// By its path: the contract has no such method.
async fn unimplemented(channel: &Channel, path: &'static str) -> Result<()> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let (path, codec) = (PathAndQuery::from_static(path), ProstCodec::default());
    let call = grpc.unary::<Empty, Empty, _>(Request::new(Empty {}), path, codec);
    let status = failure(call.await)?;
    ensure!(
        status.code() == Code::Unimplemented,
        "{status}; it was to be UNIMPLEMENTED"
    );
    Ok(())
}

fn unknown(message: &str) -> EchoStatus {
    EchoStatus {
        code: Code::Unknown.into(),
        message: message.to_owned(),
    }
}

fn failure<T>(outcome: Result<T, Status>) -> Result<Status> {
    match outcome {
        Ok(_) => bail!("a call that was to fail went well"),
        Err(status) => Ok(status),
    }
}

fn ensure_unknown(status: &Status, message: &str) -> Result<()> {
    ensure!(
        status.code() == Code::Unknown && status.message() == message,
        "{status}; it was to be UNKNOWN and {message:?}"
    );
    Ok(())
}
