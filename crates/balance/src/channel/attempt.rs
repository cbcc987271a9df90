//! One try of a call on one endpoint.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use registry::Cause;

use super::{admission::Admitted, pick::Picked};
use crate::{
    endpoint::Endpoint,
    load::InFlight,
    options::ServedBy,
    outlier::Ended,
    retry::Failure,
    status::{Code, Status},
    transport::{
        Deadline, GRPC_TIMEOUT, Held, Messages, NotOpened, Receiving, RequestBody, ResponseBody,
        Stream,
    },
};

pub(super) struct Attempt {
    endpoint: Arc<Endpoint>,
    stream: Stream,
    request: http::Request<()>,
}

/// What came of an attempt.
pub(super) enum Outcome {
    /// The server answers, and the call is committed to it; or the answer is final.
    Answered(Answer),
    /// The request never left: it goes elsewhere, as often as need be.
    NeverLeft,
    /// The server says that no application has seen the request: it goes elsewhere, once.
    Unprocessed(Status),
    /// The attempt failed before it was committed to. The answer, when there was one, is what the caller gets unless
    /// there is another attempt.
    Failed(Failure, Option<Answer>),
}

/// A response, and what its body needs.
pub(super) struct Answer {
    head: http::response::Parts,
    stream: RecvStream,
    peer: Arc<str>,
    trailers_only: bool,
    held: Held,
}

impl Attempt {
    pub(super) fn begin(Picked { endpoint, stream }: Picked, request: http::Request<()>) -> Self {
        Self {
            endpoint,
            stream,
            request,
        }
    }

    /// Makes it; `number` is its own among those that send this body.
    pub(super) async fn run<B>(self, body: &RequestBody<B>, number: u32) -> Outcome
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let Self {
            endpoint,
            stream,
            request,
        } = self;
        let with_deadline = request.headers().contains_key(GRPC_TIMEOUT);
        let (response, send) = match stream.open(request) {
            Ok(opened) => opened,
            Err(NotOpened::ConnectionClosed) => return Outcome::NeverLeft,
            Err(NotOpened::BadRequest(error)) => {
                let status = Status::from_h2(stream.connection().peer(), &error);
                return Outcome::Failed(status.into(), None);
            }
        };
        let instance = Arc::clone(endpoint.instance());
        let in_flight = InFlight::count(endpoint);
        let upload = match body.send(send, number) {
            Ok(upload) => upload,
            Err(error) => return unanswered(&stream, &in_flight, &error),
        };
        match response.await {
            Ok(response) => answered(
                response,
                ServedBy(instance),
                Held {
                    upload,
                    stream,
                    in_flight,
                    with_deadline,
                },
            ),
            Err(error) => match body.failure() {
                // Not the endpoint's failure: it is not counted as one.
                Some(status) => Outcome::Failed(status.into(), None),
                None => unanswered(&stream, &in_flight, &error),
            },
        }
    }
}

fn answered(response: http::Response<RecvStream>, by: ServedBy, held: Held) -> Outcome {
    let (mut parts, stream) = response.into_parts();
    let peer = held.stream.connection().peer();
    let content = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_grpc = content.is_some_and(|value| value.starts_with(b"application/grpc"));
    let code = Code::in_headers(&parts.headers);
    if code.is_none() && (parts.status != StatusCode::OK || !is_grpc) {
        let status = Status::from_http(peer, parts.status);
        held.in_flight.ended(Ended::NotGrpc(parts.status));
        return Outcome::Failed(status.into(), None);
    }
    if let Some(code) = code {
        held.answered(code);
    }
    parts.extensions.insert(by);
    let failure = code
        .filter(|code| *code != Code::Ok)
        .map(|code| Failure::in_trailers(code, &parts.headers));
    let answer = Answer {
        head: parts,
        stream,
        peer: Arc::clone(peer),
        trailers_only: code.is_some(),
        held,
    };
    match failure {
        Some(failure) => Outcome::Failed(failure, Some(answer)),
        None => Outcome::Answered(answer),
    }
}

/// What the end of a stream means that came before any response.
fn unanswered(stream: &Stream, in_flight: &InFlight, error: &h2::Error) -> Outcome {
    let status = Status::from_h2(stream.connection().peer(), error);
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // h2 ends with a GOAWAY just the streams above its last id, which the server will never look at.
    if refused || (error.is_go_away() && error.is_remote()) {
        in_flight.ended(Ended::Unprocessed);
        Outcome::Unprocessed(status)
    } else {
        in_flight.ended(Ended::Broken(status.code));
        Outcome::Failed(status.into(), None)
    }
}

impl Answer {
    pub(super) fn into_response(
        self,
        deadline: Option<Deadline>,
        admitted: Admitted,
    ) -> http::Response<ResponseBody> {
        let Self {
            head,
            stream,
            peer,
            trailers_only,
            held,
        } = self;
        let receiving = Receiving {
            stream,
            peer,
            trailers_only,
            messages: Messages::default(),
            held,
            _admitted: admitted,
        };
        let body = ResponseBody::new(receiving, deadline);
        http::Response::from_parts(head, body)
    }
}
