//! A call's status, as it passes on its way out.

use http::{HeaderMap, HeaderValue};
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

/// The same, put right.
///
/// For a message above the limit tonic says `OUT_OF_RANGE`; gRPC has `RESOURCE_EXHAUSTED` for it ("Status codes and their use
/// in gRPC": a received message is larger than the configured limit), and callers' tools go by that. So it is changed.
pub(super) fn settle(headers: &mut HeaderMap) -> Option<Code> {
    let code = told(headers)?;
    let too_large = |message: &HeaderValue| {
        let message = message.as_bytes();
        message.starts_with(TOO_LARGE) || message.starts_with(TOO_LARGE_PLAIN)
    };
    if code == Code::OutOfRange && headers.get(MESSAGE).is_some_and(too_large) {
        headers.insert(STATUS, HeaderValue::from(Code::ResourceExhausted as i32));
        return Some(Code::ResourceExhausted);
    }
    Some(code)
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
    use super::{Code, HeaderMap, STATUS, settle};
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
            assert_eq!(settle(&mut headers), Some(code));
            assert_eq!(headers[STATUS], (code as i32).to_string().as_str());
        }
        assert_eq!(settle(&mut HeaderMap::new()), None);
    }
}
