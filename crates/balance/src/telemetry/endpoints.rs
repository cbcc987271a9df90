//! What is measured of endpoints: their connections (gRFC A94), and what their load reports make them weigh (gRFC A78).

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter},
};
use registry::Zone;

use super::{Recorder, Telemetry};
use crate::orca::NoWeight;

#[derive(Debug)]
pub(super) struct EndpointInstruments {
    connected: Counter<u64>,
    not_connected: Counter<u64>,
    disconnected: Counter<u64>,
    rr_fallback: Counter<u64>,
    weight_not_yet_usable: Counter<u64>,
    weight_stale: Counter<u64>,
    weights: Histogram<f64>,
}

impl EndpointInstruments {
    pub(super) fn new(meter: &Meter) -> Self {
        let counter = |name, unit, description| {
            let counter = meter.u64_counter(name).with_unit(unit);
            counter.with_description(description).build()
        };
        Self {
            connected: counter(
                "grpc.subchannel.connection_attempts_succeeded",
                "{attempt}",
                "Attempts to connect that succeeded",
            ),
            not_connected: counter(
                "grpc.subchannel.connection_attempts_failed",
                "{attempt}",
                "Attempts to connect that failed",
            ),
            disconnected: counter(
                "grpc.subchannel.disconnections",
                "{disconnection}",
                "Connections that ended",
            ),
            rr_fallback: counter(
                "grpc.lb.wrr.rr_fallback",
                "{update}",
                "Updates of the weights in which fewer than two endpoints had one that is reported and of use",
            ),
            weight_not_yet_usable: counter(
                "grpc.lb.wrr.endpoint_weight_not_yet_usable",
                "{endpoint}",
                "Endpoints of each update that have not reported, or not for long enough",
            ),
            weight_stale: counter(
                "grpc.lb.wrr.endpoint_weight_stale",
                "{endpoint}",
                "Endpoints of each update whose last report has expired",
            ),
            weights: {
                let histogram = meter.f64_histogram("grpc.lb.wrr.endpoint_weights");
                let histogram = histogram.with_unit("{weight}").with_description(
                    "What each endpoint's reports make it weigh in each update; 0 without reports of use",
                );
                histogram.build()
            },
        }
    }
}

impl Telemetry {
    /// An attempt to connect an endpoint in that zone has succeeded.
    pub(crate) fn connected(&self, zone: Option<&Zone>) {
        if let Some(recorder) = &self.0 {
            let labels = recorder.labels_in(|| zone.cloned());
            recorder.endpoints.connected.add(1, &labels);
        }
    }

    /// An attempt to connect an endpoint in that zone has failed.
    pub(crate) fn not_connected(&self, zone: Option<&Zone>) {
        if let Some(recorder) = &self.0 {
            let labels = recorder.labels_in(|| zone.cloned());
            recorder.endpoints.not_connected.add(1, &labels);
        }
    }

    /// A connection to an endpoint in that zone has ended: for a reason of A94's, or because it was let go.
    pub(crate) fn disconnected(&self, zone: Option<&Zone>, why: Option<&'static str>) {
        if let Some(recorder) = &self.0 {
            let why = why.unwrap_or("subchannel shutdown");
            let mut labels = recorder.labels_in(|| zone.cloned());
            labels.extend(recorder.labels.disconnect_error(why));
            recorder.endpoints.disconnected.add(1, &labels);
        }
    }

    /// `weighted_round_robin` has looked at the weights that are reported of endpoints, all of them in `zone` where there
    /// is one, and goes by them or does not.
    pub(crate) fn weighed(
        &self,
        reported: &[Result<f64, NoWeight>],
        by_reports: bool,
        zone: impl FnOnce() -> Option<Zone>,
    ) {
        let Some(recorder) = &self.0 else { return };
        let labels = recorder.labels_in(zone);
        let instruments = &recorder.endpoints;
        if !by_reports {
            instruments.rr_fallback.add(1, &labels);
        }
        let count = |why| reported.iter().filter(|r| r.err() == Some(why)).count() as u64;
        for (counter, why) in [
            (&instruments.weight_not_yet_usable, NoWeight::NotYet),
            (&instruments.weight_stale, NoWeight::Stale),
        ] {
            if let some @ 1.. = count(why) {
                counter.add(some, &labels);
            }
        }
        for weight in reported {
            instruments.weights.record(weight.unwrap_or(0.0), &labels);
        }
    }
}

impl Recorder {
    fn labels_in(&self, zone: impl FnOnce() -> Option<Zone>) -> Vec<KeyValue> {
        let locality = self.labels.locality(zone);
        [self.target.clone()].into_iter().chain(locality).collect()
    }
}
