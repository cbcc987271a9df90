//! A channel that is watched as the binaries watch theirs.

use anyhow::{Context as _, Result};
use balance::trace::Tracing;
use opentelemetry::{
    metrics::MeterProvider as _,
    trace::{SpanContext, TracerProvider as _},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::SdkMeterProvider,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};

/// Of the calls, as by default.
const TRACED: f64 = 0.01;

/// Metrics that nobody reads, and traces that go through the batches of OpenTelemetry's SDK and then nowhere.
pub(crate) struct Watch {
    meters: SdkMeterProvider,
    tracers: SdkTracerProvider,
}

impl Watch {
    pub(crate) fn start() -> Result<Self> {
        let exporter = opentelemetry_prometheus::exporter().build();
        let exporter = exporter.context("cannot start metrics")?;
        let tracers = SdkTracerProvider::builder().with_batch_exporter(Nowhere);
        Ok(Self {
            meters: SdkMeterProvider::builder().with_reader(exporter).build(),
            tracers: tracers.build(),
        })
    }

    /// Has it watch that channel's traces, and its metrics too.
    pub(super) fn over(&self, channel: balance::Builder, metrics: bool) -> balance::Builder {
        let tracing = Tracing::within(|| SpanContext::NONE);
        let tracing = tracing.with_spans(self.tracers.tracer("balance"), TRACED);
        let channel = channel.tracing(&tracing);
        if metrics {
            channel.meter(&self.meters.meter("balance"))
        } else {
            channel
        }
    }
}

#[derive(Debug)]
struct Nowhere;

impl SpanExporter for Nowhere {
    async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}
