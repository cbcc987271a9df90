//! Many messages, one way and both ways.

use anyhow::{Context as _, Result, ensure};
use futures_util::stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Client;
use crate::{
    payload::ensure_zeros,
    testing::{
        Payload, ResponseParameters, StreamingInputCallRequest, StreamingOutputCallRequest,
        StreamingOutputCallResponse,
    },
};

const REQUESTS: [usize; 4] = [27_182, 8, 1_828, 45_904];
const RESPONSES: [usize; 4] = [31_415, 9, 2_653, 58_979];

pub(super) async fn client_streaming(mut client: Client) -> Result<()> {
    let requests = REQUESTS.map(|size| StreamingInputCallRequest {
        payload: Some(Payload::zeros(size)),
    });
    let response = client.streaming_input_call(stream::iter(requests)).await?;
    let sum = response.into_inner().aggregated_payload_size;
    ensure!(sum == 74_922, "{sum} bytes arrived of the 74922 sent");
    Ok(())
}

pub(super) async fn server_streaming(mut client: Client) -> Result<()> {
    let request = StreamingOutputCallRequest {
        response_parameters: RESPONSES.map(parameters).into(),
        ..StreamingOutputCallRequest::default()
    };
    let mut responses = client.streaming_output_call(request).await?.into_inner();
    for size in RESPONSES {
        next(&mut responses, size).await?;
    }
    ended(&mut responses).await
}

pub(super) async fn ping_pong(mut client: Client) -> Result<()> {
    let (ask, asked) = mpsc::channel(1);
    let mut rounds = REQUESTS.into_iter().zip(RESPONSES);
    let (size, mut wanted) = rounds.next().context("there are four")?;
    // A server may say nothing, not even its headers, before it is asked.
    ask.send(request(size, wanted)).await?;
    let call = client.full_duplex_call(ReceiverStream::new(asked)).await;
    let mut responses = call?.into_inner();
    for (size, next_wanted) in rounds {
        next(&mut responses, wanted).await?;
        ask.send(request(size, next_wanted)).await?;
        wanted = next_wanted;
    }
    next(&mut responses, wanted).await?;
    drop(ask);
    ended(&mut responses).await
}

pub(super) async fn empty(mut client: Client) -> Result<()> {
    let call = client.full_duplex_call(stream::empty()).await;
    ended(&mut call?.into_inner()).await
}

/// A request with a payload of `size` bytes for a response with `wanted`.
pub(super) fn request(size: usize, wanted: usize) -> StreamingOutputCallRequest {
    StreamingOutputCallRequest {
        response_parameters: vec![parameters(wanted)],
        payload: Some(Payload::zeros(size)),
        ..StreamingOutputCallRequest::default()
    }
}

fn parameters(size: usize) -> ResponseParameters {
    ResponseParameters {
        size: i32::try_from(size).expect("the sizes here are small"),
    }
}

/// Waits for a response with a payload of `size` bytes.
pub(super) async fn next(
    responses: &mut Streaming<StreamingOutputCallResponse>,
    size: usize,
) -> Result<()> {
    let response = responses.message().await?;
    let response = response.with_context(|| {
        format!("the stream ended where a response of {size} bytes was to come")
    })?;
    ensure_zeros(response.payload.as_ref(), size)
}

/// Waits for the stream's end, which is to come next, with the status OK.
pub(super) async fn ended(responses: &mut Streaming<StreamingOutputCallResponse>) -> Result<()> {
    let more = responses.message().await?;
    ensure!(more.is_none(), "a response too many");
    Ok(())
}
