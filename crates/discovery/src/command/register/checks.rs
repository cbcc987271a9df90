//! Checks that take no longer than they may, and are measured.

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter},
};
use tokio::time::{Instant, timeout};

use super::check::Check;

/// Seconds: from a connection on this machine to the longest that anybody has a check take.
const BUCKETS: [f64; 13] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// One check, made again and again.
#[derive(Debug)]
pub(super) struct Checks {
    check: Check,
    limit: Duration,
    duration: Histogram<f64>,
}

impl Checks {
    /// Each may take `limit`, and is measured by `meter`.
    pub(super) fn new(check: Check, limit: Duration, meter: &Meter) -> Self {
        let duration = meter
            .f64_histogram("discovery.check.duration")
            .with_unit("s")
            .with_description(
                "Checks of the instance that is registered, by outcome, and how long they took",
            )
            .with_boundaries(BUCKETS.to_vec())
            .build();
        Self {
            check,
            limit,
            duration,
        }
    }

    /// Makes it once; an error says what was wrong. Cancellation safe: what is cut off is not counted.
    pub(super) async fn make(&self) -> Result<(), String> {
        let began = Instant::now();
        let outcome = match timeout(self.limit, self.check.make()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => {
                let within = humantime::format_duration(self.limit);
                Err(format!("there was no answer within {within}"))
            }
        };
        let word = if outcome.is_ok() { "passed" } else { "failed" };
        let took = began.elapsed().as_secs_f64();
        self.duration
            .record(took, &[KeyValue::new("outcome", word)]);
        outcome
    }
}
