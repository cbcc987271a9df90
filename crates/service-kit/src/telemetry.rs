//! What a process tells of itself: logs on stderr, and metrics for the admin page.

mod log;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider};
use prometheus::TextEncoder;

use crate::config::LogConfig;

pub(crate) use log::LogLevel;

/// A process's meter provider, and the page on which its metrics are read. Cheap to clone.
///
/// ```
/// let telemetry = service_kit::Telemetry::metrics_only()?;
/// let greetings = telemetry.meter("example").u64_counter("greetings").build();
/// greetings.add(3, &[]);
/// assert!(telemetry.render()?.contains("greetings_total"));
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Telemetry {
    meters: SdkMeterProvider,
    page: prometheus::Registry,
    /// Where the log is ours.
    log: Option<LogLevel>,
}

impl Telemetry {
    /// Starts logs for the whole process, and metrics.
    pub fn start(config: &LogConfig) -> anyhow::Result<Self> {
        let log = log::start(config)?;
        Ok(Self {
            log: Some(log),
            ..Self::metrics_only()?
        })
    }

    /// Metrics alone, for where somebody else takes the logs.
    pub fn metrics_only() -> anyhow::Result<Self> {
        let page = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(page.clone())
            .build()
            .context("cannot start metrics")?;
        let meters = SdkMeterProvider::builder()
            .with_resource(
                Resource::builder_empty()
                    .with_service_name(program_name())
                    .build(),
            )
            .with_reader(exporter)
            .build();
        let telemetry = Self {
            meters,
            page,
            log: None,
        };
        telemetry.note_start();
        Ok(telemetry)
    }

    /// A meter for the part of the program that is called `scope`.
    pub fn meter(&self, scope: &'static str) -> Meter {
        self.meters.meter(scope)
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> anyhow::Result<String> {
        TextEncoder::new()
            .encode_to_string(&self.page.gather())
            .context("cannot write the metrics")
    }

    /// What is logged, where that is for this to say.
    pub(crate) fn log_level(&self) -> Option<&LogLevel> {
        self.log.as_ref()
    }

    /// Hands over what has not been handed over yet.
    pub fn flush(&self) {
        if let Err(error) = self.meters.force_flush() {
            tracing::warn!(%error, "cannot flush the metrics");
        }
    }

    fn note_start(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let gauge = self
            .meter("service-kit")
            .f64_gauge("process.start_time")
            .with_unit("s")
            .with_description("When the process started, in seconds since 1970")
            .build();
        // A clock that stands before 1970 has no start time to tell.
        if let Ok(now) = now {
            gauge.record(now.as_secs_f64(), &[]);
        }
    }
}

fn program_name() -> String {
    let path = std::env::current_exe().ok();
    let stem = path.as_deref().and_then(|path| path.file_stem());
    stem.map_or_else(
        || "unknown".to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}
