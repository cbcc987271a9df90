//! When a channel that nobody calls lets its connections go.

use std::{future::pending, time::Duration};

use tokio::time::{Instant, sleep_until};

/// Watches how much is being called; knows no counter itself.
#[derive(Debug)]
pub(super) struct Idleness {
    timeout: Option<Duration>,
    /// The channel's calls so far, and when that was last seen to grow.
    seen: (u64, Instant),
    is_idle: bool,
}

impl Idleness {
    /// Idle after `timeout` without a call; never without one.
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self {
            timeout,
            seen: (0, Instant::now()),
            is_idle: false,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// A call has come.
    pub(super) fn end(&mut self) {
        self.is_idle = false;
        self.seen.1 = Instant::now();
    }

    /// Waits until it is time to [`look`](Self::look); for ever when there is nothing to look for. Cancellation safe.
    pub(super) async fn due(&self) {
        match self.timeout {
            Some(timeout) if !self.is_idle => match self.seen.1.checked_add(timeout) {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            },
            _ => pending().await,
        }
    }

    /// Looks at the count of calls so far, and at whether any is in flight. Whether the channel is idle from now on.
    pub(super) fn look(&mut self, calls: u64, in_flight: bool) -> bool {
        let now = Instant::now();
        if in_flight || calls != self.seen.0 {
            self.seen = (calls, now);
        }
        let is_over = |timeout| now.duration_since(self.seen.1) >= timeout;
        self.is_idle = self.timeout.is_some_and(is_over);
        self.is_idle
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance};

    use super::{Duration, Idleness};

    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn a_channel_is_idle_after_its_timeout_without_a_call_and_not_while_one_lasts() {
        let mut idleness = Idleness::new(Some(MINUTE));
        idleness.due().await;
        assert!(!idleness.look(1, false), "a call has come meanwhile");
        idleness.due().await;
        assert!(!idleness.look(1, true), "it lasts");
        let since = Instant::now();
        idleness.due().await;
        assert_eq!(since.elapsed(), MINUTE);
        assert!(idleness.look(1, false));
        idleness.end();
        assert!(!idleness.is_idle());
        advance(MINUTE / 2).await;
        assert!(!idleness.look(1, false));
    }
}
