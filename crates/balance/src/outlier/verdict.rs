//! What the end of a call tells of the instance that it went to (ADR 6).

use http::StatusCode;

use crate::status::Code;

/// What a call's end says of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It did its work, even when the answer is not what the caller had hoped for.
    Success,
    /// It did not.
    Failure,
    /// The end came from elsewhere, or may have.
    Nothing,
}

/// How an attempt ended, and by whose doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The server sent a status.
    Answered {
        code: Code,
        /// Whether the server was told how long its caller waits: then its `DEADLINE_EXCEEDED` may be the caller's.
        with_deadline: bool,
    },
    /// The server answered, and not in gRPC.
    NotGrpc(StatusCode),
    /// The stream was reset, or its connection broke, or what came on it made no sense; what that means as a status.
    Broken(Code),
    /// The server says that no application has seen the call: `REFUSED_STREAM`, or a GOAWAY with a lower last id.
    Unprocessed,
    /// By its caller: given up, past its deadline, not produced, or too large.
    ByCaller,
}

impl Ended {
    /// The status that it is; `None` when its caller knows.
    pub(crate) fn code(self) -> Option<Code> {
        match self {
            Self::Answered { code, .. } | Self::Broken(code) => Some(code),
            Self::NotGrpc(status) => Some(Code::from_http(status)),
            Self::Unprocessed => Some(Code::Unavailable),
            Self::ByCaller => None,
        }
    }
}

impl Verdict {
    /// What that end tells.
    pub(crate) fn of(ended: Ended) -> Self {
        match ended {
            Ended::Answered {
                code: Code::DeadlineExceeded,
                with_deadline,
            } if with_deadline => Self::Nothing,
            Ended::Answered { code, .. } => Self::of_status(code),
            Ended::NotGrpc(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Self::Success,
            Ended::Broken(code) => match Self::of_status(code) {
                Self::Nothing => Self::Nothing,
                // Nothing that breaks is a success, whatever its reason is called.
                Self::Failure | Self::Success => Self::Failure,
            },
            Ended::NotGrpc(StatusCode::TOO_MANY_REQUESTS)
            | Ended::Unprocessed
            | Ended::ByCaller => Self::Nothing,
            Ended::NotGrpc(_) => Self::Failure,
        }
    }

    fn of_status(code: Code) -> Self {
        match code {
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Self::Success,
            Code::Unknown
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Failure,
            Code::Cancelled | Code::ResourceExhausted => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, StatusCode};
    use crate::outlier::{
        Ended,
        Verdict::{self, Failure, Nothing, Success},
    };

    fn answered(code: Code) -> Verdict {
        Verdict::of(Ended::Answered {
            code,
            with_deadline: false,
        })
    }

    #[test]
    fn every_code_that_a_server_sends_has_its_meaning() {
        let told = [
            Success, Nothing, Failure, Success, Failure, Success, Success, Success, Nothing,
            Success, Success, Success, Success, Failure, Failure, Failure, Success,
        ];
        for (number, expected) in told.into_iter().enumerate() {
            let code = Code::from_number(number);
            assert_eq!(answered(code), expected, "{}", code.name());
        }
    }

    #[test]
    fn a_callers_deadline_that_the_server_tells_of_says_nothing_of_the_server() {
        let late = |with_deadline| {
            Verdict::of(Ended::Answered {
                code: Code::DeadlineExceeded,
                with_deadline,
            })
        };
        assert_eq!(late(true), Nothing);
        assert_eq!(late(false), Failure);
    }

    #[test]
    fn what_breaks_is_never_a_success() {
        for number in 0..=16 {
            let code = Code::from_number(number);
            assert_ne!(Verdict::of(Ended::Broken(code)), Success, "{}", code.name());
        }
        assert_eq!(Verdict::of(Ended::Broken(Code::Unavailable)), Failure);
        assert_eq!(Verdict::of(Ended::Broken(Code::Cancelled)), Nothing);
    }

    #[test]
    fn who_speaks_no_grpc_fails_unless_it_turned_this_caller_away() {
        let by_http = |status| Verdict::of(Ended::NotGrpc(status));
        assert_eq!(by_http(StatusCode::NOT_FOUND), Failure);
        assert_eq!(by_http(StatusCode::OK), Failure);
        assert_eq!(by_http(StatusCode::BAD_GATEWAY), Failure);
        assert_eq!(by_http(StatusCode::UNAUTHORIZED), Success);
        assert_eq!(by_http(StatusCode::TOO_MANY_REQUESTS), Nothing);
    }

    #[test]
    fn what_no_application_saw_and_what_its_caller_ended_says_nothing() {
        assert_eq!(Verdict::of(Ended::Unprocessed), Nothing);
        assert_eq!(Verdict::of(Ended::ByCaller), Nothing);
    }
}
