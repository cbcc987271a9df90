//! Each call to the better of two endpoints, drawn by chance: the one whose latency, calls in flight and weight let expect
//! the earlier answer.
//!
//! The latency is a [`PeakEwma`](super::ewma::PeakEwma): it jumps up to a slow answer at once and comes down slowly, and
//! by itself when nothing is called. One that has not answered yet is taken to be as fast as the one it is compared with,
//! so that it gets no more calls than that one has, until it does.

use std::sync::Arc;

use serde::Deserialize;
use tokio::time::Instant;

use super::{CallInfo, Endpoint, Endpoints, Pick, Picker, Plan, Policy, weighted::Weighted};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {}

pub(super) struct PeakEwma;

impl PeakEwma {
    pub(super) fn new(_: &Settings) -> Self {
        Self
    }
}

impl Policy for PeakEwma {
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        endpoints.connect_all(|ready| Arc::new(PeakEwmaPicker(Weighted::new(ready))))
    }
}

struct PeakEwmaPicker(Weighted);

impl PeakEwmaPicker {
    fn is_better(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.0.endpoint(a), self.0.endpoint(b));
        let now = Instant::now();
        let (latency_a, latency_b) = match (a.peak_latency_at(now), b.peak_latency_at(now)) {
            (Some(a), Some(b)) => (a.as_secs_f64(), b.as_secs_f64()),
            _ => (1.0, 1.0),
        };
        latency_a * queue(a) < latency_b * queue(b)
    }
}

/// The calls that one more waits for, itself among them, for each unit of weight.
fn queue(endpoint: &Endpoint) -> f64 {
    (endpoint.in_flight() + 1) as f64 / f64::from(endpoint.weight())
}

impl Picker for PeakEwmaPicker {
    fn pick(&self, call: &CallInfo<'_>) -> Pick<'_> {
        let one = self.0.draw_evenly();
        // Who has just died has the fewest calls of all: a call that avoids it is to get another one.
        if call.is_repeated() {
            return Pick::Ready(self.0.endpoint(one));
        }
        let other = self.0.apart(one, self.0.draw_evenly());
        let best = if self.is_better(other, one) {
            other
        } else {
            one
        };
        Pick::Ready(self.0.endpoint(best))
    }
}
