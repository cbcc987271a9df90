//! An attempt of a call as it is traced.

use opentelemetry::global::BoxedSpan;
use tokio::time::Instant;

use super::{TracedCall, end};
use crate::{status::Code, telemetry::Ending};

/// An attempt under way; its span ends when this is dropped, and then that of the call that is committed to it.
#[derive(Debug, Default)]
pub(crate) struct TracedAttempt(Option<Box<Attempt>>);

#[derive(Debug)]
struct Attempt {
    span: BoxedSpan,
    ending: Ending,
    call: TracedCall,
}

impl TracedAttempt {
    /// The attempt of that span, of a call that is over at `until`.
    pub(super) fn new(span: BoxedSpan, until: Option<Instant>) -> Self {
        Self(Some(Box::new(Attempt {
            span,
            ending: Ending::new(until),
            call: TracedCall::default(),
        })))
    }

    /// With which status it ends. Later words change nothing.
    pub(crate) fn ended(&self, code: Code) {
        if let Some(attempt) = &self.0 {
            attempt.ending.tell(code);
            attempt.call.ended(code);
        }
    }

    /// The call is committed to it, and ends with it.
    pub(crate) fn answers(&mut self, call: TracedCall) {
        if let Some(attempt) = &mut self.0 {
            if let Some(code) = attempt.ending.told() {
                call.ended(code);
            }
            attempt.call = call;
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        end(&mut self.span, &self.ending);
    }
}
