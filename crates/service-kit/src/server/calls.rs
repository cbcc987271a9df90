//! Calls that are served as they are counted: how many there are now, and how long those took that have ended.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::metrics::{Histogram, Meter};
use tokio::sync::Notify;

use super::{methods::Ended, notice::Notice};

/// Seconds: those that OpenTelemetry's RPC conventions advise, from 5 ms on, and before them what a call in memory takes.
const BUCKETS: [f64; 18] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0,
    2.5, 5.0, 7.5, 10.0,
];

/// What is counted of calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    duration: Histogram<f64>,
    in_flight: Arc<AtomicU64>,
    idle: Notify,
    cut_off: Notice,
}

impl Calls {
    pub(crate) fn new(meter: &Meter) -> Self {
        let in_flight = Arc::new(AtomicU64::new(0));
        let observed = Arc::clone(&in_flight);
        meter
            .u64_observable_gauge("rpc.server.calls.active")
            .with_unit("{call}")
            .with_description("Calls that are being served")
            .with_callback(move |gauge| gauge.observe(observed.load(Ordering::Relaxed), &[]))
            .build();
        let duration = meter
            .f64_histogram("rpc.server.call.duration")
            .with_unit("s")
            .with_description("Calls served, by method and status, and how long they took")
            .with_boundaries(BUCKETS.to_vec())
            .build();
        Self(Arc::new(Counted {
            duration,
            in_flight,
            idle: Notify::new(),
            cut_off: Notice::default(),
        }))
    }

    /// How many calls are being served.
    pub(crate) fn in_flight(&self) -> u64 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Waits until no call is being served. Cancellation safe.
    pub(crate) async fn idle(&self) {
        let mut idle = pin!(self.0.idle.notified());
        // Enabled first: a call that ends after the look is not missed.
        idle.as_mut().enable();
        if self.in_flight() > 0 {
            idle.await;
        }
    }

    /// Ends the calls that there are, and that come: `limit` was their time, and each is told so.
    pub(crate) fn cut_off(&self, limit: Duration) {
        self.0.cut_off.give(format!(
            "the instance stops, and this call took longer than the {limit:?} that it gives calls to end"
        ));
    }

    /// Given when they are [cut off](Self::cut_off).
    pub(super) fn notice(&self) -> Notice {
        self.0.cut_off.clone()
    }

    /// One more call is being served, until [`end`](Self::end).
    pub(super) fn begin(&self) {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended like that.
    pub(super) fn end(&self, took: Duration, ended: &Ended) {
        let counted = &self.0;
        ended.took(took.as_secs_f64(), &counted.duration);
        if counted.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            counted.idle.notify_waiters();
        }
    }
}
