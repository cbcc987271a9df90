//! When a call may be made: how many in all, and how many in a second. No caller takes a lock for either.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// How many calls may be made in all, numbered from 0; closing it stops every caller.
#[derive(Debug)]
pub(crate) struct Budget {
    next: AtomicU64,
    limit: AtomicU64,
    closed: CancellationToken,
}

impl Budget {
    /// `count` calls, or as many as there is time for.
    pub(crate) fn new(count: Option<u64>) -> Self {
        Self {
            next: AtomicU64::new(0),
            limit: AtomicU64::new(count.unwrap_or(u64::MAX)),
            closed: CancellationToken::new(),
        }
    }

    /// The number of the call to make, or `None` when no more is to be made.
    pub(crate) fn take(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.limit.load(Ordering::Relaxed)).then_some(number)
    }

    /// Whether the next [`take`](Self::take) gives nothing.
    pub(crate) fn is_spent(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed)
    }

    /// No more calls: those that wait for their turn give up, those in flight finish.
    pub(crate) fn close(&self) {
        self.limit.store(0, Ordering::Relaxed);
        self.closed.cancel();
    }

    /// Resolves when the budget is closed. Cancellation safe.
    pub(crate) fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }
}

/// How late the schedule may be and still be caught up with, in nanoseconds: longer than a timer's tick and a busy
/// machine's hiccup, and short enough that an outage is not followed by a burst.
const CATCH_UP: u64 = 50_000_000;

/// A steady schedule over all callers: each call has its moment, a period after the one before.
#[derive(Debug)]
pub(crate) struct Pace {
    origin: Instant,
    period: u64,
    next: AtomicU64,
}

impl Pace {
    /// `rate` calls a second, a finite number above 0.
    pub(crate) fn per_second(rate: f64) -> Self {
        let period = Duration::try_from_secs_f64(rate.recip()).unwrap_or(Duration::MAX);
        Self {
            origin: Instant::now(),
            period: nanos(period),
            next: AtomicU64::new(0),
        }
    }

    /// The moment of the next call, which may have passed. Each caller gets another.
    pub(crate) fn reserve(&self) -> Instant {
        let oldest = nanos(self.origin.elapsed()).saturating_sub(CATCH_UP);
        let after = |due: u64| due.max(oldest).saturating_add(self.period);
        let due = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| Some(after(due)))
            .unwrap_or_else(|due| due);
        self.origin + Duration::from_nanos(due.max(oldest))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    #[test]
    fn a_budget_gives_each_number_once() {
        let budget = Budget::new(Some(2));
        assert_eq!((budget.take(), budget.is_spent()), (Some(0), false));
        assert_eq!((budget.take(), budget.is_spent()), (Some(1), true));
        assert_eq!(budget.take(), None);
    }

    #[tokio::test]
    async fn a_closed_budget_gives_nothing_and_wakes_who_waits() {
        let budget = Budget::new(None);
        assert_eq!(budget.take(), Some(0));
        budget.close();
        budget.closed().await;
        assert_eq!(budget.take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_held_to_the_call() {
        let pace = Pace::per_second(250.0);
        let start = Instant::now();
        for _ in 0..1_001 {
            sleep_until(pace.reserve()).await;
        }
        let took = start.elapsed();
        assert!(
            took.abs_diff(Duration::from_secs(4)) <= Duration::from_millis(1),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_holds_no_more_than_its_calls_wherever_it_begins() {
        let pace = Pace::per_second(10.0);
        let moments: Vec<_> = (0..100).map(|_| pace.reserve()).collect();
        for (one, tenth_after) in moments.iter().zip(&moments[10..]) {
            assert_eq!(*tenth_after - *one, Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_not_followed_by_a_burst() {
        let pace = Pace::per_second(1_000.0);
        sleep_until(pace.reserve()).await;
        advance(Duration::from_mins(1)).await;
        let now = Instant::now();
        let overdue = std::iter::repeat_with(|| pace.reserve()).take_while(|due| *due < now);
        assert_eq!(overdue.count(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_rate_does_not_overflow() {
        let pace = Pace::per_second(f64::MIN_POSITIVE);
        assert_eq!(pace.reserve(), Instant::now());
        assert!(pace.reserve() > Instant::now() + Duration::from_hours(24 * 365));
    }
}
