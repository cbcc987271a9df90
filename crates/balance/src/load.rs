//! What a channel has given an endpoint, and what came of it.

mod record;
mod window;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

use crate::{
    endpoint::Endpoint,
    orca::LoadReport,
    outlier::{Ended, Verdict},
};
pub(crate) use record::Record;
pub(crate) use window::PERIOD as RECENT;

/// What each pick counts, and policies read, without a lock and without a clock. It is little, because a pick among ten
/// thousand endpoints costs what it has to fetch of them.
#[derive(Debug, Default)]
pub(crate) struct Load {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Load {
    pub(crate) fn in_flight(&self) -> usize {
        // In this order, so that whatever has ended is seen to have begun.
        let ended = self.ended.load(Ordering::Acquire);
        let in_flight = self.begun.load(Ordering::Relaxed) - ended;
        usize::try_from(in_flight).unwrap_or(usize::MAX)
    }

    pub(crate) fn picks(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
}

/// Counts one attempt as in flight for as long as it is held. Not `Clone`: an attempt is counted down once.
#[derive(Debug)]
pub(crate) struct InFlight {
    endpoint: Arc<Endpoint>,
    began: Instant,
}

impl InFlight {
    pub(crate) fn count(endpoint: Arc<Endpoint>, now: Instant) -> Self {
        endpoint.load().begun.fetch_add(1, Ordering::Relaxed);
        Self {
            endpoint,
            began: now,
        }
    }

    /// When the attempt began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Where the attempt is.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Tells what came of the attempt, and that it was now. One that is dropped untold, because its caller or its deadline gave
    /// it up, says nothing of the endpoint.
    pub(crate) fn ended(&self, how: Ended, now: Instant) {
        let record = self.endpoint.record();
        let verdict = Verdict::of(how);
        if verdict == Verdict::Success {
            record.answered(self.began, now);
        }
        let subchannel = self.endpoint.subchannel();
        if record.count(verdict, || subchannel.suspicious_row()) {
            subchannel.tell_driver();
        }
    }

    /// The server has sent its last word: reads the load report in it, if anybody wants to know.
    pub(crate) fn reported(&self, trailers: &HeaderMap) {
        let Some(error_penalty) = self.endpoint.subchannel().reports_in_trailers() else {
            return;
        };
        match LoadReport::in_trailers(trailers) {
            Ok(Some(report)) => {
                let reported = self.endpoint.record().reported();
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
        self.endpoint.load().ended.fetch_add(1, Ordering::Release);
    }
}

/// For some centuries.
fn nanos(time: Duration) -> u64 {
    time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
}
