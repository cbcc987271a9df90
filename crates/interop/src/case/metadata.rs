//! Custom metadata, which the server echoes before its messages and after them.

use anyhow::{Context as _, Result, ensure};
use balance::Channel;
use futures_util::{future::ready, stream};
use http::uri::PathAndQuery;
use tonic::{
    Request, Response, Streaming,
    client::Grpc,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_prost::ProstCodec;

use super::{
    Client, streaming,
    unary::{ensure_large, large_request},
};
use crate::{
    server::{ECHO_INITIAL, ECHO_TRAILING},
    testing::{Payload, SimpleResponse, StreamingOutputCallResponse},
};

const INITIAL: &str = "test_initial_metadata_value";
const TRAILING: [u8; 3] = [0xab; 3];

pub(super) async fn custom(channel: &Channel) -> Result<()> {
    let response = unary(channel).await?;
    ensure_echoed(response, |r: SimpleResponse| r.payload).await?;

    let mut client = Client::new(channel.clone());
    let requests = stream::once(ready(streaming::request(271_828, 314_159)));
    let response = client.full_duplex_call(with_metadata(requests)).await?;
    ensure_echoed(response, |r: StreamingOutputCallResponse| r.payload).await
}

/// Calls `UnaryCall` as if it could answer more than once, which is the same on the wire: tonic's unary calls do not tell
/// metadata that came before the message from what came after it.
async fn unary(channel: &Channel) -> Result<Response<Streaming<SimpleResponse>>> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let path = PathAndQuery::from_static("/grpc.testing.TestService/UnaryCall");
    let request = with_metadata(large_request());
    Ok(grpc
        .server_streaming(request, path, ProstCodec::default())
        .await?)
}

fn with_metadata<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert(ECHO_INITIAL, MetadataValue::from_static(INITIAL));
    metadata.insert_bin(ECHO_TRAILING, MetadataValue::from_bytes(&TRAILING));
    request
}

async fn ensure_echoed<M>(
    response: Response<Streaming<M>>,
    payload: impl Fn(M) -> Option<Payload>,
) -> Result<()> {
    let (initial, mut messages, _) = response.into_parts();
    ensure_initial(&initial)?;
    let message = messages.message().await?.context("no response")?;
    ensure_large(payload(message).as_ref())?;
    ensure!(messages.message().await?.is_none(), "a response too many");
    ensure_trailing(&messages.trailers().await?.context("no trailing metadata")?)
}

fn ensure_initial(metadata: &MetadataMap) -> Result<()> {
    let value = metadata.get(ECHO_INITIAL);
    ensure!(
        value.is_some_and(|value| value == INITIAL),
        "the initial metadata has {value:?} for {ECHO_INITIAL}, and not {INITIAL:?}"
    );
    Ok(())
}

fn ensure_trailing(metadata: &MetadataMap) -> Result<()> {
    let value = metadata.get_bin(ECHO_TRAILING).context("not echoed")?;
    let bytes = value.to_bytes().context("not in base64")?;
    ensure!(
        *bytes == TRAILING,
        "the trailing metadata has {bytes:?} for {ECHO_TRAILING}, and not {TRAILING:?}"
    );
    Ok(())
}
