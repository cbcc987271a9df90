//! How often a connection is asked whether anybody is there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Keep-alive by HTTP/2 PINGs (gRFC A8).
///
/// By default no PING is sent by the clock: servers allow one in five minutes unless they are configured for more, and
/// end the connections of whoever asks more often, while a call whose deadline passes in silence asks by itself. An
/// interval is for what only the clock can find: streams without a deadline, and middle boxes that forget idle
/// connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepAlive {
    interval: Option<Duration>,
    timeout: Duration,
    without_calls: bool,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            interval: None,
            timeout: Duration::from_secs(20),
            without_calls: false,
        }
    }
}

impl KeepAlive {
    /// Shorter intervals than this are taken as this (gRFC A8).
    pub const MIN_INTERVAL: Duration = Duration::from_secs(10);

    /// Asks after each `interval` in which nothing was heard. The server must allow it.
    pub fn every(interval: Duration) -> Self {
        Self {
            interval: Some(interval.max(Self::MIN_INTERVAL)),
            ..Self::default()
        }
    }

    /// Ends a connection when a PING has not been answered and nothing else was heard for `timeout`, by default 20 s; this
    /// holds for every PING, not only those sent by the clock.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether to ask while there are no calls, by default not. The server must allow this, too.
    pub fn without_calls(mut self, wanted: bool) -> Self {
        self.without_calls = wanted;
        self
    }
}

/// Keep-alive towards one endpoint, which may have asked for more calm. Clones share that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace {
    keep_alive: KeepAlive,
    doublings: Arc<AtomicU32>,
}

impl Pace {
    /// Further doublings change nothing that anybody would notice.
    const MOST_DOUBLINGS: u32 = 16;

    pub(crate) fn new(keep_alive: KeepAlive) -> Self {
        Self {
            keep_alive,
            doublings: Arc::default(),
        }
    }

    /// The same towards another endpoint.
    pub(crate) fn afresh(&self) -> Self {
        Self::new(self.keep_alive)
    }

    /// The endpoint has said `too_many_pings`: the interval doubles (gRFC A8).
    pub(super) fn slow_down(&self) {
        let more = |doublings| (doublings < Self::MOST_DOUBLINGS).then_some(doublings + 1);
        let _at_most = self
            .doublings
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    pub(super) fn interval(&self) -> Option<Duration> {
        let factor = 1 << self.doublings.load(Ordering::Relaxed);
        Some(self.keep_alive.interval?.saturating_mul(factor))
    }

    pub(super) fn timeout(&self) -> Duration {
        self.keep_alive.timeout
    }

    pub(super) fn without_calls(&self) -> bool {
        self.keep_alive.without_calls
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, KeepAlive, Pace};

    #[test]
    fn an_endpoint_that_asks_for_calm_gets_it_and_the_others_do_not() {
        let pace = Pace::new(KeepAlive::every(Duration::from_secs(1)));
        let other = pace.afresh();
        let next_connection = pace.clone();
        pace.slow_down();
        pace.slow_down();
        assert_eq!(next_connection.interval(), Some(Duration::from_secs(40)));
        assert_eq!(other.interval(), Some(KeepAlive::MIN_INTERVAL));
        for _ in 0..100 {
            pace.slow_down();
        }
        assert!(pace.interval().is_some());
    }
}
