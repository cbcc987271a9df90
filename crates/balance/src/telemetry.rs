//! What a channel measures of its calls, by the names of OpenTelemetry's RPC conventions (calls), and of gRFC A66, A78, A91, A94
//! and A96 (what those do not have).
//!
//! Without a meter nothing is recorded, and a call pays a branch for each of its ends. With one, a method's instruments and
//! attributes are resolved at its first call with each status, and looked up after that.

mod attempt;
mod call;
mod ending;
mod endpoints;
mod instruments;
mod labels;
mod messages;
mod methods;

use std::sync::Arc;

use opentelemetry::{KeyValue, metrics::Meter};
use tokio::time::Instant;

use crate::{outlier::Outlier, trace::TracedCall};
use endpoints::EndpointInstruments;
use instruments::Instruments;
use methods::Methods;

pub(crate) use attempt::{MeasuredAttempt, Sending};
pub(crate) use call::MeasuredCall;
pub(crate) use labels::Labels;
pub use labels::OptionalLabel;
pub(crate) use methods::Named;

/// gRFC A66's name for what a channel goes to.
pub(crate) const TARGET: &str = "grpc.target";

/// Where a channel's measurements go; without a meter nowhere. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Telemetry(Option<Arc<Recorder>>);

#[derive(Debug)]
struct Recorder {
    instruments: Arc<Instruments>,
    endpoints: EndpointInstruments,
    methods: Methods,
    target: KeyValue,
    labels: Labels,
}

impl Telemetry {
    /// Measures what goes to `target`, with those labels beside the ones that it always has.
    pub(crate) fn new(meter: &Meter, target: &Arc<str>, named: Named, labels: Labels) -> Self {
        let instruments = Arc::new(Instruments::new(meter));
        Self(Some(Arc::new(Recorder {
            endpoints: EndpointInstruments::new(meter),
            methods: Methods::new(&instruments, target, named),
            instruments,
            target: KeyValue::new(TARGET, Arc::clone(target)),
            labels,
        })))
    }

    /// A call to `path` has begun, which is traced like that.
    #[inline]
    pub(crate) fn call(&self, path: &str, traced: TracedCall, began: Instant) -> MeasuredCall {
        MeasuredCall::begin(self.0.as_deref(), path, traced, began)
    }

    /// The outlier detection has found an outlier, and has ejected it or not.
    pub(crate) fn found(&self, outlier: &Outlier) {
        let Some(recorder) = &self.0 else { return };
        let method = KeyValue::new(
            "grpc.lb.outlier_detection.detection_method",
            outlier.why.method(),
        );
        let target = recorder.target.clone();
        match outlier.spared {
            None => recorder.instruments.ejected.add(1, &[target, method]),
            Some(spared) => {
                let reason = KeyValue::new(
                    "grpc.lb.outlier_detection.unenforced_reason",
                    spared.reason(),
                );
                recorder
                    .instruments
                    .spared
                    .add(1, &[target, method, reason]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
