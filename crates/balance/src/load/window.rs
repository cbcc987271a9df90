//! How much a counter has grown in the last seconds, without a timer and without a second counter.

use std::sync::atomic::{AtomicU64, Ordering};

/// Remembers where a counter stood when the present period began and when the one before it did. Times are in nanoseconds
/// since any fixed moment.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Window {
    /// The present period's number: all that most picks look at.
    period: AtomicU64,
    /// The counter at its beginning.
    mark: AtomicU64,
    /// How much it grew in the period before.
    before: AtomicU64,
}

impl Window {
    const PERIOD: u64 = 10_000_000_000;

    /// The counter stands at `count`, and is about to grow.
    pub(super) fn turn(&self, count: u64, now: u64) {
        let now = now / Self::PERIOD;
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
    pub(super) fn count(&self, count: u64, now: u64) -> u64 {
        self.turn(count, now);
        let present = count.saturating_sub(self.mark.load(Ordering::Relaxed));
        let left = Self::PERIOD - now % Self::PERIOD;
        let before = u128::from(self.before.load(Ordering::Relaxed)) * u128::from(left)
            / u128::from(Self::PERIOD);
        present + u64::try_from(before).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_was_counted_is_forgotten_after_ten_to_twenty_seconds() {
        let window = Window::default();
        let mut count = 0;
        for _ in 0..100 {
            window.turn(count, 0);
            count += 1;
        }
        assert_eq!(window.count(count, 0), 100);
        assert_eq!(window.count(count, 15 * SECOND), 50);
        assert_eq!(window.count(count, 20 * SECOND), 0);
        window.turn(count, 20 * SECOND);
        assert_eq!(window.count(count + 1, 20 * SECOND), 1);
    }
}
