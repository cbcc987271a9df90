//! What a channel has given an endpoint, and what came of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{endpoint::Endpoint, policy::ewma::PeakEwma, status::Code};

/// The time in which `peak_ewma` forgets all but 1/e of a slow answer.
const PEAK_DECAY: Duration = Duration::from_secs(10);

/// Counters that calls write and policies read, without a lock.
#[derive(Debug)]
pub(crate) struct Load {
    in_flight: AtomicUsize,
    picks: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// Failures since the last success.
    consecutive: AtomicU32,
    /// In nanoseconds, a moving average; 0 before the first.
    latency: AtomicU64,
    peak: PeakEwma,
    since: Instant,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            in_flight: AtomicUsize::default(),
            picks: AtomicU64::default(),
            succeeded: AtomicU64::default(),
            failed: AtomicU64::default(),
            consecutive: AtomicU32::default(),
            latency: AtomicU64::default(),
            peak: PeakEwma::new(PEAK_DECAY),
            since: Instant::now(),
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

    pub(crate) fn latency(&self) -> Option<Duration> {
        match self.latency.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    pub(crate) fn peak_latency(&self) -> Option<Duration> {
        self.peak.at(self.since.elapsed())
    }

    fn record(&self, code: Code, elapsed: Duration) {
        if code == Code::Ok {
            self.succeeded.fetch_add(1, Ordering::Relaxed);
            self.consecutive.store(0, Ordering::Relaxed);
        } else {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.consecutive.fetch_add(1, Ordering::Relaxed);
        }
        let sample = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Two that end at once may lose one of their samples, which an average can bear.
        let average = match self.latency.load(Ordering::Relaxed) {
            0 => sample,
            before => before - before / 8 + sample / 8,
        };
        self.latency.store(average, Ordering::Relaxed);
        self.peak.record(self.since.elapsed(), elapsed);
    }
}

/// Counts one attempt as in flight for as long as it is held. Not `Clone`: an attempt is counted down once.
#[derive(Debug)]
pub(crate) struct InFlight {
    endpoint: Arc<Endpoint>,
    since: Instant,
}

impl InFlight {
    pub(crate) fn count(endpoint: Arc<Endpoint>) -> Self {
        let load = endpoint.load();
        load.picks.fetch_add(1, Ordering::Relaxed);
        load.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            endpoint,
            since: Instant::now(),
        }
    }

    /// Tells what came of the attempt. One that is dropped untold, because its caller or its deadline gave it up, says
    /// nothing of the endpoint.
    pub(crate) fn ended(&self, code: Code) {
        self.endpoint.load().record(code, self.since.elapsed());
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
