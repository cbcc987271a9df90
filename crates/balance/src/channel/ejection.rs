//! The outlier detection of a channel: sweeps, and asks at once when an endpoint fails too often in a row.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
};

use tokio::time::{Instant, sleep_until};

use super::{Stats, entries::Entries};
use crate::{
    endpoint::Endpoint,
    outlier::{Counts, Detector, Outlier, Settings},
    subchannel::SubchannelContext,
    telemetry::Telemetry,
};

/// A detector with what it needs of the world.
#[derive(Debug)]
pub(super) struct Ejection {
    detector: Detector,
    rng: fastrand::Rng,
    on: bool,
    asks_for_rows: bool,
    /// The endpoints that the detector was last told of.
    known: Arc<[Arc<Endpoint>]>,
    stats: Arc<Stats>,
    telemetry: Telemetry,
}

/// Why the outlier detection keeps calls from an endpoint, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Ejected {
    pub(super) why: Arc<str>,
    pub(super) since: Instant,
    /// It ends with the first sweep after that.
    pub(super) until: Instant,
}

impl Ejection {
    /// Detects nothing yet.
    pub(super) fn new(stats: Arc<Stats>, telemetry: Telemetry) -> Self {
        Self {
            detector: Detector::default(),
            rng: fastrand::Rng::new(),
            on: false,
            asks_for_rows: false,
            known: Arc::default(),
            stats,
            telemetry,
        }
    }

    /// Detects by `settings` from now on.
    pub(super) fn configure(
        &mut self,
        settings: Settings,
        context: &SubchannelContext,
        entries: &mut Entries,
    ) {
        let row = settings
            .consecutive_failures
            .map_or(0, |row| row.threshold.get());
        context.suspicious_row.store(row, Ordering::Relaxed);
        (self.on, self.asks_for_rows) = (settings.are_on(), row > 0);
        let configured = self.detector.configure(settings, Instant::now());
        if configured.begins {
            // What was counted before is nobody's outlier.
            self.known = Arc::default();
            drop(counts(&entries.endpoints()));
        }
        restore(entries, &configured.returned);
    }

    /// Waits for the next sweep; for ever when there is none. Cancellation safe.
    pub(super) async fn due(&self) {
        match self.detector.next_sweep() {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    }

    /// Ejects and returns endpoints, as what was counted and the time say.
    pub(super) fn look(&mut self, entries: &mut Entries) {
        if !self.on {
            return;
        }
        self.follow(entries);
        let now = Instant::now();
        if self.asks_for_rows {
            for serial in entries.suspicious() {
                if let Some(outlier) = self.detector.consecutive(serial, now, &mut self.rng) {
                    self.eject(entries, &outlier);
                }
            }
        }
        if self.detector.next_sweep().is_some_and(|at| at <= now) {
            let sweep = self
                .detector
                .sweep(now, &counts(&self.known), &mut self.rng);
            for outlier in &sweep.outliers {
                self.eject(entries, outlier);
            }
            restore(entries, &sweep.returned);
        }
    }

    fn follow(&mut self, entries: &mut Entries) {
        let endpoints = entries.endpoints();
        if Arc::ptr_eq(&endpoints, &self.known) {
            return;
        }
        let serials = |all: &[Arc<Endpoint>]| all.iter().map(|e| e.serial()).collect::<Vec<_>>();
        let (now, before) = (serials(&endpoints), serials(&self.known));
        self.known = endpoints;
        if now != before {
            let returned = self.detector.endpoints(now);
            restore(entries, &returned);
        }
    }

    fn eject(&self, entries: &mut Entries, outlier: &Outlier) {
        let (serial, why) = (outlier.serial, outlier.why);
        let endpoint = self.known.iter().find(|e| e.serial() == serial);
        let id = endpoint
            .map(|e| e.instance().id.to_string())
            .unwrap_or_default();
        self.telemetry.found(outlier);
        if let Some(spared) = outlier.spared {
            tracing::debug!(endpoint = id, %why, spared = spared.reason(), "an outlier is not ejected");
            return;
        }
        let lasts = self.detector.ejected_for(serial).unwrap_or_default();
        tracing::info!(endpoint = id, %why, ?lasts, "ejected an endpoint");
        self.stats.ejected();
        let since = Instant::now();
        let ejected = Ejected {
            why: format!("ejected: {why}").into(),
            since,
            until: since + lasts,
        };
        entries.eject(serial, Some(ejected));
    }
}

fn restore(entries: &mut Entries, serials: &[u64]) {
    for serial in serials {
        entries.eject(*serial, None);
    }
}

fn counts(endpoints: &[Arc<Endpoint>]) -> Vec<Counts> {
    let counts = endpoints.iter().map(|e| e.record().take_counts(e.serial()));
    counts.collect()
}
