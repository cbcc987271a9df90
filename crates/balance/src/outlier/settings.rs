//! What outlier detection is told to do.

use std::{num::NonZeroU32, time::Duration};

/// How to find endpoints that fail, and for how long to eject them (gRFC A50's configuration, with its defaults).
///
/// Nothing is detected unless at least one of the three ways to do so is there. A percentage above 100 means 100.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The time between two sweeps; less than [`Settings::SHORTEST_INTERVAL`] means that.
    pub(crate) interval: Duration,
    /// The first ejection's length; the `n`th lasts `n` times as long.
    pub(crate) base_ejection_time: Duration,
    /// No ejection lasts longer, unless the base time is longer already.
    pub(crate) max_ejection_time: Duration,
    /// How many of a hundred endpoints may be ejected at a time; 0 ejects none.
    pub(crate) max_ejection_percent: u32,
    /// Ejects those whose success rate is far below the mean of all.
    pub(crate) success_rate: Option<SuccessRate>,
    /// Ejects those that fail more than a share of their calls.
    pub(crate) failure_percentage: Option<FailurePercentage>,
    /// Ejects those with so many failures in a row, at once and not at the next sweep. Not in A50.
    pub(crate) consecutive_failures: Option<ConsecutiveFailures>,
}

impl Settings {
    /// So that no configuration keeps a processor busy with sweeps.
    pub(crate) const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

    /// Whether anything is to be detected.
    pub(crate) fn are_on(&self) -> bool {
        self.success_rate.is_some()
            || self.failure_percentage.is_some()
            || self.consecutive_failures.is_some()
    }

    /// How long an endpoint's `nth` ejection lasts, at most.
    pub(super) fn ejection_time(&self, nth: u32) -> Duration {
        let longest = self.base_ejection_time.max(self.max_ejection_time);
        self.base_ejection_time.saturating_mul(nth).min(longest)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_mins(5),
            max_ejection_percent: 10,
            success_rate: None,
            failure_percentage: None,
            consecutive_failures: None,
        }
    }
}

/// The success rate algorithm's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SuccessRate {
    /// An outlier's rate is below the mean by more than a thousandth of this, times the standard deviation.
    pub(crate) stdev_factor: u32,
    /// How many of a hundred outliers are ejected indeed.
    pub(crate) enforcement_percentage: u32,
    /// With fewer endpoints that had enough calls, nobody is an outlier.
    pub(crate) minimum_hosts: u32,
    /// An endpoint with fewer calls in an interval is not looked at.
    pub(crate) request_volume: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self {
            stdev_factor: 1_900,
            enforcement_percentage: 100,
            minimum_hosts: 5,
            request_volume: 100,
        }
    }
}

/// The failure percentage algorithm's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailurePercentage {
    /// An outlier fails more than this of a hundred calls.
    pub(crate) threshold: u32,
    /// How many of a hundred outliers are ejected indeed.
    pub(crate) enforcement_percentage: u32,
    /// With fewer endpoints that had enough calls, nobody is an outlier.
    pub(crate) minimum_hosts: u32,
    /// An endpoint with fewer calls in an interval is not looked at.
    pub(crate) request_volume: u32,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self {
            threshold: 85,
            enforcement_percentage: 100,
            minimum_hosts: 5,
            request_volume: 50,
        }
    }
}

/// How failures in a row are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConsecutiveFailures {
    /// So many make an outlier.
    pub(crate) threshold: NonZeroU32,
    /// How many of a hundred outliers are ejected indeed.
    pub(crate) enforcement_percentage: u32,
}

impl Default for ConsecutiveFailures {
    fn default() -> Self {
        Self {
            threshold: const { NonZeroU32::new(5).expect("not zero") },
            enforcement_percentage: 100,
        }
    }
}
