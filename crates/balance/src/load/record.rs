//! What came of the attempts at an endpoint.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{nanos, window::Window};
use crate::{
    orca::ReportedWeight,
    outlier::{Counts, Tally, Verdict},
    policy::ewma::PeakEwma,
};

/// The time in which `peak_ewma` forgets all but 1/e of a slow answer.
const PEAK_DECAY: Duration = Duration::from_secs(10);

/// What ends of calls write and policies and the outlier detection read, without a lock.
#[derive(Debug)]
pub(crate) struct Record {
    since: Instant,
    /// In nanoseconds, a moving average; 0 before the first.
    latency: AtomicU64,
    peak: PeakEwma,
    tally: Tally,
    /// So many calls have failed in a row that the outlier detection is to be asked.
    suspicious: AtomicBool,
    reported: ReportedWeight,
    picks: Window,
}

impl Default for Record {
    fn default() -> Self {
        let since = Instant::now();
        Self {
            since,
            latency: AtomicU64::default(),
            peak: PeakEwma::new(PEAK_DECAY),
            tally: Tally::default(),
            suspicious: AtomicBool::default(),
            reported: ReportedWeight::new(since),
            picks: Window::default(),
        }
    }
}

impl Record {
    pub(crate) fn latency(&self) -> Option<Duration> {
        match self.latency.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    pub(crate) fn peak_latency(&self, now: Instant) -> Option<Duration> {
        self.peak.at(self.age(now))
    }

    /// Of so many picks at all, those in about the last ten seconds.
    pub(crate) fn recent(&self, picks: u64) -> u64 {
        self.picks.count(picks, self.age(Instant::now()))
    }

    /// Ten seconds are over, and there have been so many picks at all.
    pub(crate) fn turn(&self, picks: u64, now: Instant) {
        self.picks.turn(picks, self.age(now));
    }

    /// What has been counted since this was last asked, for the endpoint of that serial.
    pub(crate) fn take_counts(&self, serial: u64) -> Counts {
        self.tally.take(serial)
    }

    /// Whether too many calls have failed in a row since this was last asked.
    pub(crate) fn take_suspicion(&self) -> bool {
        self.suspicious.load(Ordering::Relaxed) && self.suspicious.swap(false, Ordering::Relaxed)
    }

    /// What the server's load reports make the endpoint weigh.
    pub(crate) fn reported(&self) -> &ReportedWeight {
        &self.reported
    }

    /// Counts an attempt's end. Whether the outlier detection is to be asked now, as `row()` have failed in a row.
    pub(super) fn count(&self, verdict: Verdict, row: impl FnOnce() -> Option<NonZeroU32>) -> bool {
        let is_suspicious = self.tally.count(verdict, row);
        if is_suspicious {
            self.suspicious.store(true, Ordering::Relaxed);
        }
        is_suspicious
    }

    /// An attempt that began then is answered now.
    pub(super) fn answered(&self, began: Instant, now: Instant) {
        let now = self.age(now);
        let sample = now.saturating_sub(self.age(began)).max(1);
        // Two that end at once may lose one of their samples, which an average can bear.
        let average = match self.latency.load(Ordering::Relaxed) {
            0 => sample,
            before => before - before / 8 + sample / 8,
        };
        self.latency.store(average, Ordering::Relaxed);
        self.peak.record(now, sample);
    }

    /// How old it is at a moment, in nanoseconds.
    fn age(&self, now: Instant) -> u64 {
        nanos(now.duration_since(self.since))
    }
}
