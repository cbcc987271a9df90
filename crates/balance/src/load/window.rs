//! How much a counter has grown in the last seconds, without a timer and without a second counter.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Remembers where a counter stood when the present period began and when the one before it did.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Window {
    /// The present period's number: all that most picks look at.
    period: AtomicU64,
    start: Instant,
    /// The counter at its beginning.
    mark: AtomicU64,
    /// How much it grew in the period before.
    before: AtomicU64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            period: AtomicU64::new(0),
            mark: AtomicU64::new(0),
            before: AtomicU64::new(0),
        }
    }
}

impl Window {
    const PERIOD: Duration = Duration::from_secs(10);

    /// The counter stands at `count`, and is about to grow.
    pub(super) fn turn(&self, count: u64, now: Instant) {
        let now = now.duration_since(self.start).as_secs() / Self::PERIOD.as_secs();
        let period = self.period.load(Ordering::Relaxed);
        if now == period {
            return;
        }
        let ours = self
            .period
            .compare_exchange(period, now, Ordering::Relaxed, Ordering::Relaxed);
        if ours.is_ok() {
            let mark = self.mark.swap(count, Ordering::Relaxed);
            let grown = if now == period + 1 { count - mark } else { 0 };
            self.before.store(grown, Ordering::Relaxed);
        }
    }

    /// How much a counter that stands at `count` has grown in the last period: what it grew in the present one, and of the
    /// one before as much as reaches into the last ten seconds.
    pub(super) fn count(&self, count: u64, now: Instant) -> u64 {
        self.turn(count, now);
        let present = count.saturating_sub(self.mark.load(Ordering::Relaxed));
        let age = now.duration_since(self.start).as_millis() % Self::PERIOD.as_millis();
        let left = Self::PERIOD.as_millis() - age;
        let before =
            u128::from(self.before.load(Ordering::Relaxed)) * left / Self::PERIOD.as_millis();
        present + u64::try_from(before).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::{Duration, Instant, Window};

    #[tokio::test(start_paused = true)]
    async fn what_was_counted_is_forgotten_after_ten_to_twenty_seconds() {
        let window = Window::default();
        let mut count = 0;
        for _ in 0..100 {
            window.turn(count, Instant::now());
            count += 1;
        }
        assert_eq!(window.count(count, Instant::now()), 100);
        advance(Duration::from_secs(15)).await;
        assert_eq!(window.count(count, Instant::now()), 50);
        advance(Duration::from_secs(5)).await;
        assert_eq!(window.count(count, Instant::now()), 0);
        window.turn(count, Instant::now());
        assert_eq!(window.count(count + 1, Instant::now()), 1);
    }
}
