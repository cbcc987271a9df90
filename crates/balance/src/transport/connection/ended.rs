//! Why a connection ended, in the words that gRFC A94 has for it.

use std::io::ErrorKind;

pub(super) const TIMED_OUT: &str = "connection timed out";
/// The socket's end without a GOAWAY.
pub(super) const SOCKET_ERROR: &str = "socket error";
const UNKNOWN: &str = "unknown";

/// A GOAWAY with each of HTTP/2's error codes (RFC 9113, section 7).
const GO_AWAY: [&str; 14] = [
    "GOAWAY NO_ERROR",
    "GOAWAY PROTOCOL_ERROR",
    "GOAWAY INTERNAL_ERROR",
    "GOAWAY FLOW_CONTROL_ERROR",
    "GOAWAY SETTINGS_TIMEOUT",
    "GOAWAY STREAM_CLOSED",
    "GOAWAY FRAME_SIZE_ERROR",
    "GOAWAY REFUSED_STREAM",
    "GOAWAY CANCEL",
    "GOAWAY COMPRESSION_ERROR",
    "GOAWAY CONNECT_ERROR",
    "GOAWAY ENHANCE_YOUR_CALM",
    "GOAWAY INADEQUATE_SECURITY",
    "GOAWAY HTTP_1_1_REQUIRED",
];

/// What that error means for its connection. There are few words, whatever a server says: each is a time series.
pub(super) fn in_words(error: &h2::Error) -> &'static str {
    match (error.get_io(), error.reason()) {
        (Some(io), _) => of_socket(io.kind()),
        (None, Some(code)) if error.is_go_away() && error.is_remote() => {
            let named = GO_AWAY.get(u32::from(code) as usize);
            named.copied().unwrap_or(UNKNOWN)
        }
        _ => UNKNOWN,
    }
}

fn of_socket(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ConnectionReset => "connection reset",
        ErrorKind::TimedOut => TIMED_OUT,
        ErrorKind::ConnectionAborted => "connection aborted",
        _ => SOCKET_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorKind, GO_AWAY, SOCKET_ERROR, TIMED_OUT, UNKNOWN, in_words, of_socket};

    #[test]
    fn a_socket_s_errors_have_the_words_of_a94() {
        for (kind, words) in [
            (ErrorKind::ConnectionReset, "connection reset"),
            (ErrorKind::TimedOut, TIMED_OUT),
            (ErrorKind::ConnectionAborted, "connection aborted"),
            (ErrorKind::BrokenPipe, SOCKET_ERROR),
        ] {
            assert_eq!(of_socket(kind), words);
        }
    }

    #[test]
    fn each_code_is_named_as_http_2_names_it() {
        for (code, words) in (0_u32..).zip(GO_AWAY) {
            let reason = h2::Reason::from(code);
            assert_eq!(words, format!("GOAWAY {reason:?}"));
        }
        assert_eq!(in_words(&h2::Reason::CANCEL.into()), UNKNOWN);
    }
}
