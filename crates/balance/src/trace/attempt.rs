//! An attempt of a call as it is traced.

use opentelemetry::global::BoxedSpan;

use super::end;
use crate::status::Code;

/// The span of an attempt under way, if it has one.
#[derive(Debug, Default)]
pub(crate) struct TracedAttempt(Option<BoxedSpan>);

impl TracedAttempt {
    pub(super) fn new(span: BoxedSpan) -> Self {
        Self(Some(span))
    }

    pub(crate) fn is_traced(&self) -> bool {
        self.0.is_some()
    }

    /// It has ended with that status.
    pub(crate) fn end(self, code: Code) {
        if let Some(mut span) = self.0 {
            end(&mut span, code);
        }
    }
}
