//! What the service answers (grpc/grpc `doc/interop-test-descriptions.md`, "Server").

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, future::ready, stream};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::{
    testing::{
        EchoStatus, Empty, Payload, SimpleRequest, SimpleResponse, StreamingInputCallRequest,
        StreamingInputCallResponse, StreamingOutputCallRequest, StreamingOutputCallResponse,
        test_service_server,
    },
    wire::CompressedFlags,
};

type Responses = Pin<Box<dyn Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send>>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Handler;

#[tonic::async_trait]
impl test_service_server::TestService for Handler {
    async fn empty_call(&self, _request: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }

    async fn unary_call(
        &self,
        request: Request<SimpleRequest>,
    ) -> Result<Response<SimpleResponse>, Status> {
        as_expected(&request)?;
        let request = request.into_inner();
        refused(request.response_status)?;
        let mut response = Response::new(SimpleResponse {
            payload: Some(Payload::asked_for(request.response_size)?),
        });
        if !request.response_compressed.is_some_and(|c| c.value) {
            response.disable_compression();
        }
        Ok(response)
    }

    type StreamingOutputCallStream = Responses;

    async fn streaming_output_call(
        &self,
        request: Request<StreamingOutputCallRequest>,
    ) -> Result<Response<Responses>, Status> {
        let responses = responses(Ok(request.into_inner()));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn streaming_input_call(
        &self,
        request: Request<Streaming<StreamingInputCallRequest>>,
    ) -> Result<Response<StreamingInputCallResponse>, Status> {
        let sizes = request
            .into_inner()
            .map_ok(|request| request.payload.map_or(0, |payload| payload.body.len()));
        let sum = sizes
            .try_fold(0, |sum: usize, size| ready(Ok(sum.saturating_add(size))))
            .await?;
        Ok(Response::new(StreamingInputCallResponse {
            aggregated_payload_size: i32::try_from(sum)
                .map_err(|_| Status::out_of_range(format!("{sum} bytes are too many to tell")))?,
        }))
    }

    type FullDuplexCallStream = Responses;

    async fn full_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let responses = request.into_inner().flat_map(responses);
        Ok(Response::new(Box::pin(responses)))
    }
}

/// The responses to one request of a stream; an error is the stream's last item.
fn responses(
    request: Result<StreamingOutputCallRequest, Status>,
) -> impl Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send {
    let wanted = request.and_then(|request| {
        refused(request.response_status)?;
        Ok(request.response_parameters)
    });
    let (wanted, failure) = match wanted {
        Ok(wanted) => (wanted, None),
        Err(status) => (Vec::new(), Some(Err(status))),
    };
    let responses = wanted.into_iter().map(|parameters| {
        Ok(StreamingOutputCallResponse {
            payload: Some(Payload::asked_for(parameters.size)?),
        })
    });
    stream::iter(responses.chain(failure))
}

/// The status that a request asks for.
fn refused(wanted: Option<EchoStatus>) -> Result<(), Status> {
    match wanted {
        Some(EchoStatus { code, message }) if code != 0 => {
            Err(Status::new(Code::from_i32(code), message))
        }
        _ => Ok(()),
    }
}

/// Whether the request was compressed, when it says that it is, or that it is not.
fn as_expected(request: &Request<SimpleRequest>) -> Result<(), Status> {
    let Some(expected) = request.get_ref().expect_compressed else {
        return Ok(());
    };
    let flags = request.extensions().get::<CompressedFlags>();
    let compressed = flags.is_some_and(|flags| flags.so_far() == [true]);
    if compressed == expected.value {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "a request whose compressed flag is {compressed}, and was to be {}",
        expected.value
    )))
}
