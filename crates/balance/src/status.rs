//! How an RPC ends when this channel ends it.
//!
//! Every failure of a call is an `Ok` response that carries only trailers (`grpc-status`, percent-encoded
//! `grpc-message`), or a trailers frame in mid-stream: tonic turns any `Service::Error` into UNKNOWN. Faults of the
//! control plane never leak as codes that an application gives a meaning of its own (gRFC A54).

mod details;
mod told;

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

pub(crate) use details::ErrorInfo;
use details::STATUS_DETAILS;
pub(crate) use told::BINARY;

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What gRPC's HTTP/2 protocol has encoded in `grpc-message`: all but printable ASCII, and `%` itself.
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// gRPC's status codes (grpc/grpc `doc/statuscodes.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are gRPC's own")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    const ALL: [(Self, &'static str); 17] = [
        (Self::Ok, "OK"),
        (Self::Cancelled, "CANCELLED"),
        (Self::Unknown, "UNKNOWN"),
        (Self::InvalidArgument, "INVALID_ARGUMENT"),
        (Self::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (Self::NotFound, "NOT_FOUND"),
        (Self::AlreadyExists, "ALREADY_EXISTS"),
        (Self::PermissionDenied, "PERMISSION_DENIED"),
        (Self::ResourceExhausted, "RESOURCE_EXHAUSTED"),
        (Self::FailedPrecondition, "FAILED_PRECONDITION"),
        (Self::Aborted, "ABORTED"),
        (Self::OutOfRange, "OUT_OF_RANGE"),
        (Self::Unimplemented, "UNIMPLEMENTED"),
        (Self::Internal, "INTERNAL"),
        (Self::Unavailable, "UNAVAILABLE"),
        (Self::DataLoss, "DATA_LOSS"),
        (Self::Unauthenticated, "UNAUTHENTICATED"),
    ];

    /// The code's number on the wire.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The code's name, as in `UNAVAILABLE`.
    pub fn name(self) -> &'static str {
        Self::ALL[usize::from(self.number())].1
    }

    /// The code of that number; a number that is none reads as UNKNOWN.
    pub fn from_number(number: usize) -> Self {
        Self::ALL
            .get(number)
            .map_or(Self::Unknown, |(code, _)| *code)
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, n)| n.eq_ignore_ascii_case(name))
            .map(|(code, _)| *code)
    }

    /// What `grpc-status` says, where there is one.
    pub(crate) fn in_headers(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(GRPC_STATUS)?;
        let number = value.to_str().ok().and_then(|text| text.parse().ok());
        Some(Self::from_number(number.unwrap_or(usize::MAX)))
    }

    /// What a peer that answered with HTTP alone means (grpc/grpc `doc/http-grpc-status-mapping.md`).
    pub(crate) fn from_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// What a stream's reset means (grpc/grpc `doc/PROTOCOL-HTTP2.md`, "Errors").
    fn from_reset(reason: h2::Reason) -> Self {
        match reason {
            h2::Reason::REFUSED_STREAM => Self::Unavailable,
            h2::Reason::CANCEL => Self::Cancelled,
            h2::Reason::ENHANCE_YOUR_CALM => Self::ResourceExhausted,
            h2::Reason::INADEQUATE_SECURITY => Self::PermissionDenied,
            _ => Self::Internal,
        }
    }
}

/// A code, and the reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub(crate) code: Code,
    pub(crate) message: Cow<'static, str>,
    /// What `grpc-status-details-bin` says.
    details: Option<HeaderValue>,
}

impl Status {
    /// A status of that code, for that reason.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
        }
    }

    /// The same, with its kind for programs.
    pub(crate) fn with_details(self, info: ErrorInfo<'_>) -> Self {
        let details = details::encode(self.code, &self.message, &info);
        Self {
            details: Some(details),
            ..self
        }
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The reason.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// What a broken stream or connection to `peer` means.
    pub(crate) fn from_h2(peer: &str, error: &h2::Error) -> Self {
        let code = match error.reason() {
            // A connection that we end breaks the rules of HTTP/2.
            _ if error.is_go_away() && error.is_library() => Code::Internal,
            // One that the peer ends, whatever it says of why, leaves its calls unanswered.
            _ if error.is_io() || error.is_go_away() => Code::Unavailable,
            Some(reason) => Code::from_reset(reason),
            None => Code::Internal,
        };
        Self::new(code, format!("{peer}: {}", registry::one_line(error)))
    }

    pub(crate) fn from_http(peer: &str, status: StatusCode) -> Self {
        Self::new(
            Code::from_http(status),
            format!("{peer}: answered with HTTP status {status} instead of gRPC"),
        )
    }

    /// The code that a `grpc-status` tells; an error when what it says is none.
    pub(crate) fn told_by(peer: &str, value: &HeaderValue) -> Result<Code, Self> {
        let number = match value.as_bytes() {
            [digit @ b'0'..=b'9'] => Some(usize::from(digit - b'0')),
            _ => value.to_str().ok().and_then(|text| text.parse().ok()),
        };
        number.map(Code::from_number).ok_or_else(|| {
            let message = format!("{peer}: grpc-status is {value:?}, which is no number");
            Self::new(Code::Internal, message)
        })
    }

    /// What it means that trailers tell no status: the same as over HTTP status 200 (grpc/grpc
    /// `doc/http-grpc-status-mapping.md`).
    pub(crate) fn untold(peer: &str) -> Self {
        let message = format!("{peer}: the response ended without a grpc-status");
        Self::new(Code::Unknown, message)
    }

    /// What the headers of a trailers-only response say.
    pub(crate) fn from_headers(code: Code, headers: &HeaderMap) -> Self {
        let message = headers.get(GRPC_MESSAGE).map_or(Cow::Borrowed(""), |text| {
            Cow::Owned(
                percent_decode(text.as_bytes())
                    .decode_utf8_lossy()
                    .into_owned(),
            )
        });
        Self {
            code,
            message,
            details: None,
        }
    }

    /// The trailers that tell it.
    pub(crate) fn to_trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert(
            GRPC_STATUS,
            HeaderValue::from(u16::from(self.code.number())),
        );
        if let Some(message) = encoded(&self.message) {
            trailers.insert(GRPC_MESSAGE, message);
        }
        if let Some(details) = &self.details {
            trailers.insert(STATUS_DETAILS, details.clone());
        }
        trailers
    }

    /// A response that tells it and nothing else.
    pub(crate) fn to_response<B: Default>(&self) -> http::Response<B> {
        let mut response = http::Response::new(B::default());
        *response.headers_mut() = self.to_trailers();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

/// A message as `grpc-message` has it.
fn encoded(message: &str) -> Option<HeaderValue> {
    let encoded = utf8_percent_encode(message, MESSAGE).to_string();
    HeaderValue::try_from(encoded).ok()
}

#[cfg(test)]
mod tests {
    use super::{Code, GRPC_MESSAGE, Status};

    #[test]
    fn a_message_of_any_letters_survives_the_wire() {
        let status = Status::unavailable("50 % of “greeter”\nare gone");
        let trailers = status.to_trailers();
        assert!(trailers[GRPC_MESSAGE].to_str().is_ok_and(str::is_ascii));
        assert_eq!(Status::from_headers(Code::Unavailable, &trailers), status);
    }

    #[test]
    fn every_code_has_its_own_place_in_the_table() {
        for (place, (code, name)) in Code::ALL.iter().enumerate() {
            assert_eq!(usize::from(code.number()), place);
            assert_eq!(Code::from_name(name), Some(*code));
        }
        assert_eq!(Code::from_number(99), Code::Unknown);
    }
}
