//! What an endpoint's calls have told of it since the last sweep.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::{Counts, Verdict};

/// Counts verdicts without a lock; the endpoint holds it. An end of a call and a sweep that meet may count the call in
/// either interval, and never twice.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    successes: AtomicU64,
    failures: AtomicU64,
    in_a_row: AtomicU32,
}

impl Tally {
    /// Counts a call's end. Whether the detector is to be asked now: `row()` failures have come in a row, or twice as many,
    /// or three times, so that an endpoint for which there was no room is asked about again.
    pub(crate) fn count(&self, verdict: Verdict, row: impl FnOnce() -> Option<NonZeroU32>) -> bool {
        match verdict {
            Verdict::Success => {
                self.successes.fetch_add(1, Ordering::Relaxed);
                // Read first: as a rule there is nothing to write, and a read is shared by all who call.
                if self.in_a_row.load(Ordering::Relaxed) > 0 {
                    self.in_a_row.store(0, Ordering::Relaxed);
                }
                false
            }
            Verdict::Failure => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                let failures = self
                    .in_a_row
                    .fetch_add(1, Ordering::Relaxed)
                    .wrapping_add(1);
                row().is_some_and(|row| failures.is_multiple_of(row.get()))
            }
            Verdict::Nothing => false,
        }
    }

    /// What has been counted since this was last asked, for the endpoint of that number.
    pub(crate) fn take(&self, serial: u64) -> Counts {
        Counts {
            serial,
            successes: self.successes.swap(0, Ordering::Relaxed),
            failures: self.failures.swap(0, Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use crate::outlier::{
        Counts, Tally,
        Verdict::{Failure, Nothing, Success},
    };

    #[test]
    fn each_sweep_sees_what_came_since_the_last() {
        let tally = Tally::default();
        for verdict in [Success, Failure, Success, Nothing] {
            assert!(!tally.count(verdict, || None));
        }
        let counted = |successes, failures| Counts {
            serial: 7,
            successes,
            failures,
        };
        assert_eq!(tally.take(7), counted(2, 1));
        assert_eq!(tally.take(7), counted(0, 0));
    }

    #[test]
    fn only_a_success_ends_a_row_of_failures() {
        let tally = Tally::default();
        let row = NonZeroU32::new(3);
        let mut asked = Vec::new();
        for verdict in [
            Failure, Failure, Success, Failure, Failure, Nothing, Failure, Failure, Failure,
            Failure,
        ] {
            asked.push(tally.count(verdict, || row));
        }
        let third_and_sixth = [
            false, false, false, false, false, false, true, false, false, true,
        ];
        assert_eq!(asked, third_and_sixth);
    }
}
