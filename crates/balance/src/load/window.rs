//! How much a counter has grown in the last seconds, without a second counter: who counts looks at no clock, and somebody
//! tells at times how it stands.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::nanos;

/// How often a window is to be told how its counter stands, and how far back it looks.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);

/// Remembers how a counter stood when the present period began, and how much it grew in the one before. Times are in
/// nanoseconds since any fixed moment.
#[derive(Debug, Default)]
pub(super) struct Window {
    began: AtomicU64,
    mark: AtomicU64,
    before: AtomicU64,
}

impl Window {
    /// A period ends `now`, and the counter stands at `count`.
    pub(super) fn turn(&self, count: u64, now: u64) {
        let mark = self.mark.swap(count, Ordering::Relaxed);
        self.before
            .store(count.saturating_sub(mark), Ordering::Relaxed);
        self.began.store(now, Ordering::Relaxed);
    }

    /// How much a counter that stands at `count` has grown in the last period: what it grew in the present one, and of the
    /// one before as much as reaches into it.
    pub(super) fn count(&self, count: u64, now: u64) -> u64 {
        let present = count.saturating_sub(self.mark.load(Ordering::Relaxed));
        let (period, age) = (
            nanos(PERIOD),
            now.saturating_sub(self.began.load(Ordering::Relaxed)),
        );
        let before = u128::from(self.before.load(Ordering::Relaxed));
        let left = before * u128::from(period.saturating_sub(age)) / u128::from(period);
        present + u64::try_from(left).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{PERIOD, Window, nanos};

    #[test]
    fn what_was_counted_is_forgotten_after_ten_to_twenty_seconds() {
        let (window, period) = (Window::default(), nanos(PERIOD));
        assert_eq!(window.count(100, 0), 100);
        window.turn(100, period);
        assert_eq!(window.count(100, period), 100);
        assert_eq!(window.count(100, period * 3 / 2), 50);
        assert_eq!(window.count(130, period * 3 / 2), 80);
        window.turn(130, period * 2);
        assert_eq!(window.count(130, period * 2), 30);
        assert_eq!(window.count(131, period * 4), 1);
    }
}
