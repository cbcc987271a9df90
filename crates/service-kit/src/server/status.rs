//! A call's status, as it passes on its way out.

use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, combinators::MapFrame};
use tonic::Code;

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
/// How tonic begins the message of a status for a message above its limit (percent-encoded, as on the wire).
const TOO_LARGE: &[u8] = b"Error,%20decoded%20message%20length%20too%20large";
const TOO_LARGE_PLAIN: &[u8] = b"Error, decoded message length too large";

/// The status in a response's headers or trailers, if it is there.
pub(super) fn told(headers: &HeaderMap) -> Option<Code> {
    let status = headers.get(STATUS)?;
    Some(Code::from_bytes(status.as_bytes()))
}

/// A response whose frames are put right on their way.
type Settled<B> = MapFrame<B, fn(Frame<<B as Body>::Data>) -> Frame<<B as Body>::Data>>;

/// The response with its status put right, in its headers or trailers.
///
/// For a message above the limit tonic says `OUT_OF_RANGE`; gRPC has `RESOURCE_EXHAUSTED` for it ("Status codes and their use
/// in gRPC": a received message is larger than the configured limit), and callers' tools go by that. So it is changed.
pub(super) fn settled<B: Body>(mut response: Response<B>) -> Response<Settled<B>> {
    settle(response.headers_mut());
    response.map(|body| body.map_frame(settle_frame as fn(_) -> _))
}

fn settle_frame<D>(mut frame: Frame<D>) -> Frame<D> {
    if let Some(trailers) = frame.trailers_mut() {
        settle(trailers);
    }
    frame
}

fn settle(headers: &mut HeaderMap) {
    let too_large = |message: &HeaderValue| {
        let message = message.as_bytes();
        message.starts_with(TOO_LARGE) || message.starts_with(TOO_LARGE_PLAIN)
    };
    if told(headers) == Some(Code::OutOfRange) && headers.get(MESSAGE).is_some_and(too_large) {
        headers.insert(STATUS, HeaderValue::from(Code::ResourceExhausted as i32));
    }
}

/// The name of a status as gRPC writes it.
pub(super) fn name_of(code: Code) -> &'static str {
    balance::Code::from_number(code as usize).name()
}

/// Whether a status is the server's fault, as OpenTelemetry has it of gRPC: the others are about the request.
pub(super) fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

#[cfg(test)]
mod tests {
    use super::{Code, HeaderMap, settle, told};
    use tonic::Status;

    fn headers_of(status: &Status) -> HeaderMap {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).expect("a status");
        headers
    }

    #[test]
    fn only_a_message_above_the_limit_becomes_resource_exhausted() {
        let large = "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes";
        for (status, code) in [
            (Status::out_of_range(large), Code::ResourceExhausted),
            (Status::out_of_range("page 7 of 3"), Code::OutOfRange),
            (Status::not_found(large), Code::NotFound),
            (Status::ok(""), Code::Ok),
        ] {
            let mut headers = headers_of(&status);
            settle(&mut headers);
            assert_eq!(told(&headers), Some(code));
        }
    }
}
