//! How a call or an attempt has ended.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::time::Instant;

use crate::status::Code;

/// With what a call or an attempt has ended, by whoever is first to know.
#[derive(Debug)]
pub(super) struct Ending {
    code: AtomicU8,
    pub(super) until: Option<Instant>,
}

impl Ending {
    const UNTOLD: u8 = u8::MAX;

    pub(super) fn new(until: Option<Instant>) -> Self {
        Self {
            code: AtomicU8::new(Self::UNTOLD),
            until,
        }
    }

    pub(super) fn tell(&self, code: Code) {
        // The first is what happened; what comes after follows from it. Of two at the same moment either is the first.
        if self.told().is_none() {
            self.code.store(code.number(), Ordering::Relaxed);
        }
    }

    pub(super) fn told(&self) -> Option<Code> {
        let number = self.code.load(Ordering::Relaxed);
        (number != Self::UNTOLD).then(|| Code::from_number(number.into()))
    }

    pub(super) fn code(&self, now: Instant) -> Code {
        self.told().unwrap_or_else(|| {
            if self.until.is_some_and(|until| until <= now) {
                Code::DeadlineExceeded
            } else {
                Code::Cancelled
            }
        })
    }
}
