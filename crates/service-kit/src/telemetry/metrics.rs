//! Metrics: kept once, and read by the page for Prometheus and by what is pushed alike.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::Context;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{
        InstrumentKind, Pipeline, SdkMeterProvider, Temporality, data::ResourceMetrics,
        reader::MetricReader,
    },
};
use prometheus::TextEncoder;

/// A process's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    meters: SdkMeterProvider,
    page: prometheus::Registry,
    reader: Reader,
}

impl Metrics {
    /// None yet, of whoever that is.
    pub(super) fn of(resource: Resource) -> anyhow::Result<Self> {
        let page = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(page.clone())
            .build()
            .context("cannot start metrics")?;
        let reader = Reader(Arc::new(exporter));
        let meters = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(reader.clone());
        Ok(Self {
            meters: meters.build(),
            page,
            reader,
        })
    }

    /// A meter for the part of the program that is called `scope`.
    pub(super) fn meter(&self, scope: &'static str) -> Meter {
        self.meters.meter(scope)
    }

    /// All of them in Prometheus' text format.
    pub(super) fn render(&self) -> anyhow::Result<String> {
        TextEncoder::new()
            .encode_to_string(&self.page.gather())
            .context("cannot write the metrics")
    }

    /// What reads them as they are on the page.
    pub(super) fn reader(&self) -> Reader {
        self.reader.clone()
    }
}

/// The reader of the page, for whoever else reads the same. A second one would have each call pay twice for its metrics.
#[derive(Debug, Clone)]
pub(super) struct Reader(Arc<PrometheusExporter>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
