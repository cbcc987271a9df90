//! What is refused again and again: each time counted, and logged once in a while.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// One line in so long is enough to know of it.
const QUIET: Duration = Duration::from_mins(1);

/// What one limit has refused.
#[derive(Debug, Default)]
pub(super) struct Refused {
    count: AtomicU64,
    logged: Mutex<Option<Instant>>,
}

impl Refused {
    /// How often.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Once more: `what` has happened to `peer`. Logged unless the like of it has been logged lately.
    pub(super) fn another(&self, peer: IpAddr, what: &str, why: impl fmt::Display) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= QUIET) {
            *logged = Some(Instant::now());
            drop(logged);
            tracing::warn!(
                %peer,
                count,
                "{what}: {why}; the next are counted and not logged for {QUIET:?}"
            );
        }
    }
}
