//! A handler that panics answers INTERNAL, and its connection lives on.

use std::any::Any;

use http::Response;
use tonic::{Status, body::Body};

/// The answer to a call whose handler panicked. What it panicked with is for the log alone.
#[expect(clippy::needless_pass_by_value, reason = "tower-http calls it so")]
pub(super) fn internal(panic: Box<dyn Any + Send>) -> Response<Body> {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a value that is no text");
    tracing::error!(panic = text, "a handler panicked");
    Status::internal("the handler panicked").into_http()
}
