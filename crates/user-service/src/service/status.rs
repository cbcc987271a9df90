//! What each failure is called on the wire. What went wrong inside is for the log: a caller is told what it can do.
//!
//! Each has a `google.rpc.ErrorInfo` beside its code, whose reason never changes (AIP-193).

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{password::PasswordError, storage::StorageError};

/// Whose the reasons are.
const DOMAIN: &str = "user.v1.UserService";

fn details(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

fn failed(code: Code, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, details(reason))
}

/// A request that cannot be valid: a `google.rpc.BadRequest` names each field.
pub(super) fn bad_request(violations: Vec<FieldViolation>) -> Status {
    let fields: Vec<_> = violations
        .iter()
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect();
    let mut details = details("INVALID_REQUEST");
    details.set_bad_request(violations);
    Status::with_error_details(Code::InvalidArgument, fields.join("; "), details)
}

pub(super) fn of_storage(error: StorageError) -> Status {
    match error {
        StorageError::AlreadyExists => {
            failed(Code::AlreadyExists, "USER_EXISTS", error.to_string())
        }
        StorageError::NotFound => failed(Code::NotFound, "USER_NOT_FOUND", error.to_string()),
        StorageError::Stale => failed(
            Code::Aborted,
            "ETAG_MISMATCH",
            "the user has changed: get it again, and try with the new etag",
        ),
        StorageError::RequestReused => bad_request(vec![FieldViolation::new(
            "request_id",
            "a request of this id has created another user",
        )]),
        // It is well: whoever tries again at once makes it worse.
        StorageError::Busy => failed(Code::ResourceExhausted, "STORAGE_BUSY", error.to_string()),
        error if error.is_unavailable() => {
            tracing::debug!(
                error = registry::one_line(&error),
                "no answer from the storage"
            );
            failed(
                Code::Unavailable,
                "STORAGE_UNAVAILABLE",
                "the storage cannot be used",
            )
        }
        error => {
            tracing::error!(error = registry::one_line(&error), "the storage has failed");
            failed(Code::Internal, "STORAGE_FAILED", "the storage has failed")
        }
    }
}

pub(super) fn of_password(error: PasswordError) -> Status {
    match error {
        PasswordError::Busy => failed(Code::ResourceExhausted, "PASSWORDS_BUSY", error.to_string()),
        PasswordError::Failed(why) => {
            tracing::error!(error = why, "a password could not be looked at");
            failed(
                Code::Internal,
                "PASSWORD_FAILED",
                "the password could not be looked at",
            )
        }
    }
}

/// A page's token that cannot be sealed.
pub(super) fn unsealed(_: ring::error::Unspecified) -> Status {
    tracing::error!("a page token cannot be sealed");
    failed(
        Code::Internal,
        "PAGE_TOKEN_FAILED",
        "the next page cannot be told",
    )
}

/// The same for everybody who is not let in.
pub(super) fn wrong_credentials() -> Status {
    failed(
        Code::Unauthenticated,
        "WRONG_CREDENTIALS",
        "there is no such user, or the password is another",
    )
}

/// Nothing is left of the time that the caller waits.
pub(super) fn too_late() -> Status {
    failed(Code::DeadlineExceeded, "TOO_LATE", "the deadline is over")
}

/// A greeter that is not there is told as it is; one that refuses is a fault between the two of us, not the caller's. What it says, with
/// the names and addresses of instances, is for the log.
#[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
pub(super) fn of_greeter(status: Status) -> Status {
    let said = status.message();
    match status.code() {
        code @ (Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::ResourceExhausted) => {
            tracing::debug!(%code, said, "no greeter has answered");
            failed(code, "GREETER_UNAVAILABLE", "no greeter has answered")
        }
        code => {
            tracing::warn!(%code, said, "the greeter has refused");
            failed(Code::Internal, "GREETER_REFUSED", "the greeter has refused")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_greeter_says_of_its_own_stays_here() {
        for (told, code, reason) in [
            (Code::Unavailable, Code::Unavailable, "GREETER_UNAVAILABLE"),
            (Code::Cancelled, Code::Cancelled, "GREETER_UNAVAILABLE"),
            (Code::InvalidArgument, Code::Internal, "GREETER_REFUSED"),
        ] {
            let of_its_own = Status::new(told, "10.0.0.7:50051 (greeter-5f) has no disk");
            let status = of_greeter(of_its_own);
            assert_eq!(status.code(), code);
            let details = status.get_details_error_info().expect("an ErrorInfo");
            assert_eq!(details.reason, reason);
            for shown in ["10.0.0.7", "greeter-5f", "disk"] {
                assert!(!format!("{status:?}").contains(shown), "{status:?}");
            }
        }
    }
}
