//! How a call or an attempt has ended.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::status::Code;

/// The end of a call or an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) code: Code,
    pub(super) at: Instant,
    pub(super) took: Duration,
}

impl Ended {
    /// Of what began then, at that moment.
    pub(super) fn new(code: Code, began: Instant, at: Instant) -> Self {
        Self {
            code,
            at,
            took: at.duration_since(began),
        }
    }

    /// Of what nobody has told the end of: it ends now, by its deadline or because its caller has given it up.
    pub(super) fn untold(began: Instant, until: Option<Instant>) -> Self {
        let now = Instant::now();
        let code = if until.is_some_and(|until| until <= now) {
            Code::DeadlineExceeded
        } else {
            Code::Cancelled
        };
        Self::new(code, began, now)
    }
}

/// With what a call is to end, by whoever is first to know.
#[derive(Debug)]
pub(super) struct Told(AtomicU8);

impl Default for Told {
    fn default() -> Self {
        Self(AtomicU8::new(Self::NOTHING))
    }
}

impl Told {
    const NOTHING: u8 = u8::MAX;

    pub(super) fn tell(&self, code: Code) {
        // The first is what happened; what comes after follows from it. Of two at the same moment either is the first.
        if self.code().is_none() {
            self.0.store(code.number(), Ordering::Relaxed);
        }
    }

    pub(super) fn code(&self) -> Option<Code> {
        let number = self.0.load(Ordering::Relaxed);
        (number != Self::NOTHING).then(|| Code::from_number(number.into()))
    }
}
