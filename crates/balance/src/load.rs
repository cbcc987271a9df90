//! What a channel has given an endpoint, and what came of it.

mod window;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

use crate::{
    endpoint::Endpoint,
    orca::{LoadReport, ReportedWeight},
    outlier::{Counts, Ended, Tally, Verdict},
    policy::ewma::PeakEwma,
};
use window::Window;

/// The time in which `peak_ewma` forgets all but 1/e of a slow answer.
const PEAK_DECAY: Duration = Duration::from_secs(10);

/// Counters that calls write and policies read, without a lock.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Load {
    in_flight: AtomicUsize,
    picks: AtomicU64,
    recent: Window,
    tally: Tally,
    /// So many calls have failed in a row that the outlier detection is to be asked.
    suspicious: AtomicBool,
    /// In nanoseconds, a moving average; 0 before the first.
    latency: AtomicU64,
    peak: PeakEwma,
    reported: ReportedWeight,
    since: Instant,
}

impl Default for Load {
    fn default() -> Self {
        let since = Instant::now();
        Self {
            in_flight: AtomicUsize::default(),
            picks: AtomicU64::default(),
            recent: Window::default(),
            tally: Tally::default(),
            suspicious: AtomicBool::default(),
            latency: AtomicU64::default(),
            peak: PeakEwma::new(PEAK_DECAY),
            reported: ReportedWeight::new(since),
            since,
        }
    }
}

impl Load {
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn picks(&self) -> u64 {
        self.picks.load(Ordering::Relaxed)
    }

    /// Picks in about the last ten seconds.
    pub(crate) fn recent_picks(&self) -> u64 {
        self.recent.count(self.picks(), self.age(Instant::now()))
    }

    pub(crate) fn latency(&self) -> Option<Duration> {
        match self.latency.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    pub(crate) fn peak_latency(&self) -> Option<Duration> {
        self.peak.at(self.age(Instant::now()))
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

    /// How old it is at a moment, in nanoseconds: for some centuries.
    fn age(&self, now: Instant) -> u64 {
        let age = now.duration_since(self.since);
        age.as_secs() * 1_000_000_000 + u64::from(age.subsec_nanos())
    }

    /// An attempt that began and ended at those ages was answered.
    fn answered(&self, began: u64, now: u64) {
        let sample = now.saturating_sub(began).max(1);
        // Two that end at once may lose one of their samples, which an average can bear.
        let average = match self.latency.load(Ordering::Relaxed) {
            0 => sample,
            before => before - before / 8 + sample / 8,
        };
        self.latency.store(average, Ordering::Relaxed);
        self.peak.record(now, sample);
    }
}

/// Counts one attempt as in flight for as long as it is held. Not `Clone`: an attempt is counted down once.
#[derive(Debug)]
pub(crate) struct InFlight {
    endpoint: Arc<Endpoint>,
    /// How old the endpoint's load was when it began.
    began: u64,
}

impl InFlight {
    pub(crate) fn count(endpoint: Arc<Endpoint>, now: Instant) -> Self {
        let load = endpoint.load();
        let began = load.age(now);
        let picks = load.picks.fetch_add(1, Ordering::Relaxed);
        load.recent.turn(picks, began);
        load.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, began }
    }

    /// Where the attempt is.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Tells what came of the attempt. One that is dropped untold, because its caller or its deadline gave it up, says
    /// nothing of the endpoint.
    pub(crate) fn ended(&self, how: Ended) {
        let load = self.endpoint.load();
        let verdict = Verdict::of(how);
        if verdict == Verdict::Success {
            load.answered(self.began, load.age(Instant::now()));
        }
        let subchannel = self.endpoint.subchannel();
        if load.tally.count(verdict, || subchannel.suspicious_row()) {
            load.suspicious.store(true, Ordering::Relaxed);
            subchannel.tell_driver();
        }
    }
}

impl InFlight {
    /// The server has sent its last word: reads the load report in it, if anybody wants to know.
    pub(crate) fn reported(&self, trailers: &HeaderMap) {
        let Some(error_penalty) = self.endpoint.subchannel().reports_in_trailers() else {
            return;
        };
        match LoadReport::in_trailers(trailers) {
            Ok(Some(report)) => {
                let reported = self.endpoint.load().reported();
                reported.update(&report, error_penalty, Instant::now());
            }
            Ok(None) => {}
            Err(malformed) => tracing::debug!(
                endpoint = %self.endpoint.instance().id,
                cause = registry::one_line(&malformed),
                "a load report cannot be read"
            ),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint
            .load()
            .in_flight
            .fetch_sub(1, Ordering::Relaxed);
    }
}
