//! The collector: whether there is one, by OpenTelemetry's own variables, and what becomes of what is sent to it.

use std::{
    env,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use opentelemetry::{KeyValue, metrics::AsyncInstrument};
use opentelemetry_sdk::error::OTelSdkResult;

/// How long a collector may take for what is left at the end of the process.
pub(super) const FLUSH_WITHIN: Duration = Duration::from_secs(3);
/// What of that is for spans at most, so that the metrics can tell that these were lost.
pub(super) const SPANS_WITHIN: Duration = Duration::from_secs(2);
/// Where it is, such as `http://localhost:4317`, for all signals that have no variable of their own.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// What can be sent, by its variables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signal {
    endpoint: &'static str,
    exporter: &'static str,
}

pub(super) const TRACES: Signal = Signal {
    endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    exporter: "OTEL_TRACES_EXPORTER",
};
pub(super) const METRICS: Signal = Signal {
    endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    exporter: "OTEL_METRICS_EXPORTER",
};

impl Signal {
    /// Whether the environment names a collector for it, and does not say that nothing is to be sent.
    pub(super) fn is_sent(self) -> bool {
        self.is_sent_by(|name| env::var(name).ok())
    }

    /// An empty variable is none, as everywhere in OpenTelemetry.
    fn is_sent_by(self, variable: impl Fn(&str) -> Option<String>) -> bool {
        let said = |name| variable(name).filter(|value| !value.trim().is_empty());
        let is_off = said(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let exporters = said(self.exporter);
        let is_wanted =
            exporters.is_none_or(|list| list.split(',').any(|one| one.trim() == "otlp"));
        !is_off && is_wanted && (said(self.endpoint).is_some() || said(ENDPOINT).is_some())
    }
}

/// What becomes of what is sent. An outage is logged once, and its end.
#[derive(Debug)]
pub(super) struct Sent {
    /// What that is, as in "no spans".
    what: &'static str,
    exported: AtomicU64,
    /// The collector did not take them.
    failed: AtomicU64,
    /// It has not taken the last ones.
    failing: AtomicBool,
}

impl Sent {
    pub(super) const fn new(what: &'static str) -> Self {
        Self {
            what,
            exported: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        }
    }

    /// So many were sent, and that came of it.
    pub(super) fn ended(&self, count: usize, result: &OTelSdkResult) {
        let what = self.what;
        let counter = if result.is_ok() {
            &self.exported
        } else {
            &self.failed
        };
        counter.fetch_add(count as u64, Ordering::Relaxed);
        let failing = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(error) if !failing => {
                tracing::warn!(%error, "the collector takes no {what}; they are lost until it does");
            }
            Ok(()) if failing => tracing::info!("the collector takes {what} again"),
            _ => {}
        }
    }

    /// So many were not taken by the end.
    pub(super) fn lost(&self, count: usize) {
        self.failed.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Whether the collector has not taken the last ones.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// How many were `exported`, and how many `failed`.
    pub(super) fn counts(&self) -> [u64; 2] {
        [&self.exported, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }

    /// The same as a counter has it.
    pub(super) fn observe(&self, counter: &dyn AsyncInstrument<u64>) {
        for (outcome, count) in ["exported", "failed"].into_iter().zip(self.counts()) {
            counter.observe(count, &[KeyValue::new("outcome", outcome)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{METRICS, Signal, TRACES};

    fn is_sent(signal: Signal, environment: &[(&str, &str)]) -> bool {
        signal.is_sent_by(|name| {
            let set = environment.iter().find(|(other, _)| *other == name);
            set.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_signal_is_sent_where_a_collector_is_named_for_it() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");
        let metrics = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://localhost:1");
        for (environment, traces_are, metrics_are) in [
            (&[][..], false, false),
            (&[all], true, true),
            (&[metrics], false, true),
            (&[(all.0, "")], false, false),
            (&[all, (metrics.0, "")], true, true),
        ] {
            assert_eq!(is_sent(TRACES, environment), traces_are, "{environment:?}");
            assert_eq!(
                is_sent(METRICS, environment),
                metrics_are,
                "{environment:?}"
            );
        }
    }

    #[test]
    fn who_says_none_sends_nothing_although_there_is_a_collector() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");
        for (said, traces_are, metrics_are) in [
            (("OTEL_METRICS_EXPORTER", "none"), true, false),
            (("OTEL_METRICS_EXPORTER", ""), true, true),
            (("OTEL_METRICS_EXPORTER", "prometheus"), true, false),
            (("OTEL_METRICS_EXPORTER", "prometheus, otlp"), true, true),
            (("OTEL_TRACES_EXPORTER", "none"), false, true),
            (("OTEL_SDK_DISABLED", "True"), false, false),
            (("OTEL_SDK_DISABLED", "no"), true, true),
        ] {
            assert_eq!(is_sent(TRACES, &[all, said]), traces_are, "{said:?}");
            assert_eq!(is_sent(METRICS, &[all, said]), metrics_are, "{said:?}");
        }
    }
}
