//! A channel that is watched as the binaries watch theirs.

use anyhow::{Context as _, Result};
use balance::trace::Tracing;
use opentelemetry::{metrics::MeterProvider as _, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{metrics::SdkMeterProvider, trace::SdkTracerProvider};

/// Of the calls, as by default.
const TRACED: f64 = 0.01;

/// Metrics for a page that nobody reads, and traces that are sent to a collector.
pub(crate) struct Watch {
    meters: SdkMeterProvider,
    tracers: SdkTracerProvider,
}

impl Watch {
    /// Inside a runtime, by which spans are sent.
    pub(crate) fn start(collector: &str) -> Result<Self> {
        let page = opentelemetry_prometheus::exporter().build();
        let page = page.context("cannot start metrics")?;
        let spans = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(collector);
        let spans = spans.build().context("cannot export traces")?;
        Ok(Self {
            meters: SdkMeterProvider::builder().with_reader(page).build(),
            tracers: SdkTracerProvider::builder()
                .with_batch_exporter(spans)
                .build(),
        })
    }

    /// Has it watch that channel's traces, and its metrics too.
    pub(crate) fn over(&self, channel: balance::Builder, metrics: bool) -> balance::Builder {
        let tracing = Tracing::default().with_spans(self.tracers.tracer("balance"), TRACED);
        let channel = channel.tracing(&tracing);
        if metrics {
            channel
                .meter(&self.meters.meter("balance"))
                .measure_endpoints(true)
        } else {
            channel
        }
    }
}
