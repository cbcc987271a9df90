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

/// How long to wait after a rebuild that took so long.
pub(super) fn pause(took: Duration) -> Duration {
    took.saturating_mul(PARTS - 1).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::{Duration, pause};

    #[test]
    fn a_rebuild_takes_a_33rd_of_the_time_at_most_unless_pickers_would_be_too_old() {
        let millis = |took: f64| pause(Duration::from_secs_f64(took / 1e3)).as_secs_f64() * 1e3;
        assert!((millis(0.0) - 10.0).abs() < 1e-9);
        assert!((millis(0.3) - 10.0).abs() < 1e-9);
        assert!((millis(5.0) - 160.0).abs() < 1e-9, "5 of 165");
        assert!((millis(100.0) - 250.0).abs() < 1e-9);
        assert!((pause(Duration::MAX).as_secs_f64() - 0.25).abs() < 1e-9);
    }
}
