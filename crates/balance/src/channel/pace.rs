//! How often pickers are rebuilt: so seldom that however many endpoints there are, and however often they change, it takes
//! but a small part of a core.

use std::time::Duration;

/// The least time between two rebuilds: all that changes in it is taken together.
const LEAST: Duration = Duration::from_millis(10);
/// The most: a picker is not to be much older than what it chooses among, whatever it costs. A connection that dies is passed
/// over at once in any case.
const MOST: Duration = Duration::from_millis(250);
/// A rebuild takes at most one part of so many of the time, which is 3 %. Only a large hash table takes more than that of
/// [`LEAST`].
const PARTS: u32 = 33;

/// Counts what rebuilds cost.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Duration,
}

impl Pace {
    /// How long to wait after a rebuild that took so long. One that was slow once is not waited for: the first of a channel,
    /// or one that had to share its core.
    pub(super) fn pause(&mut self, took: Duration) -> Duration {
        let cost = took.min(std::mem::replace(&mut self.last, took));
        cost.saturating_mul(PARTS - 1).clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Pace};

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn rebuilds_take_a_33rd_of_the_time_at_most_unless_pickers_would_be_too_old() {
        for (took, pause) in [(0, 10), (1, 32), (5, 160), (100, 250), (u64::MAX, 250)] {
            let mut pace = Pace::default();
            pace.pause(millis(took));
            assert_eq!(pace.pause(millis(took)), millis(pause), "{took} ms");
        }
    }

    #[test]
    fn what_was_slow_once_is_not_waited_for() {
        let mut pace = Pace::default();
        let pauses = [100, 0, 100, 1].map(|took| pace.pause(millis(took)));
        assert_eq!(pauses, [10, 10, 10, 32].map(millis));
    }
}
