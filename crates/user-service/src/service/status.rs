//! What each failure is called on the wire. What went wrong inside is for the log: a caller is told what it can do.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{password::PasswordError, storage::StorageError};

/// A request that cannot be valid: a `google.rpc.BadRequest` names each field.
pub(super) fn bad_request(violations: Vec<FieldViolation>) -> Status {
    let fields: Vec<_> = violations
        .iter()
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect();
    let mut details = ErrorDetails::new();
    details.set_bad_request(violations);
    Status::with_error_details(Code::InvalidArgument, fields.join("; "), details)
}

pub(super) fn of_storage(error: StorageError) -> Status {
    match error {
        StorageError::AlreadyExists => Status::already_exists(error.to_string()),
        StorageError::NotFound => Status::not_found(error.to_string()),
        StorageError::Stale => {
            Status::aborted("the user has changed: get it again, and try with the new etag")
        }
        StorageError::RequestReused => bad_request(vec![FieldViolation::new(
            "request_id",
            "a request of this id has created another user",
        )]),
        // It is well: whoever tries again at once makes it worse.
        StorageError::Busy => Status::resource_exhausted(error.to_string()),
        error if error.is_unavailable() => {
            tracing::debug!(
                error = registry::one_line(&error),
                "no answer from the storage"
            );
            Status::unavailable("the storage cannot be used")
        }
        error => {
            tracing::error!(error = registry::one_line(&error), "the storage has failed");
            Status::internal("the storage has failed")
        }
    }
}

pub(super) fn of_password(error: PasswordError) -> Status {
    match error {
        PasswordError::Busy => Status::resource_exhausted(error.to_string()),
        PasswordError::Failed(why) => {
            tracing::error!(error = why, "a password could not be looked at");
            Status::internal("the password could not be looked at")
        }
    }
}

/// The same for everybody who is not let in.
pub(super) fn wrong_credentials() -> Status {
    Status::unauthenticated("there is no such user, or the password is another")
}

/// A greeter that is not there is passed on as it is; one that refuses is a fault between the two of us, not the caller's.
#[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
pub(super) fn of_greeter(status: Status) -> Status {
    let text = format!("the greeter: {}", status.message());
    match status.code() {
        code @ (Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::ResourceExhausted) => Status::new(code, text),
        code => {
            tracing::warn!(%code, message = status.message(), "the greeter has refused");
            Status::internal(text)
        }
    }
}
