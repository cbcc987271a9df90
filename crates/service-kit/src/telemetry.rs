//! What a process tells of itself: logs on stderr, metrics for the admin page, and metrics and traces for a collector.

mod collector;
pub(crate) mod credentials;
mod joined;
mod log;
mod metrics;
mod process;
mod push;
mod quiet;
mod registered;
mod runtime;
mod traces;

use std::{
    env,
    sync::{Arc, LazyLock},
};

use balance::{ClientTls, trace::Tracing};
use opentelemetry::{KeyValue, metrics::Meter};
use opentelemetry_sdk::{Resource, resource::EnvResourceDetector};
use registry::{RegistrationState, Registry};
use tokio::{runtime::Handle, task::spawn_blocking, time::Instant};
use uuid::Uuid;

use crate::config::Sections;

use collector::{FLUSH_WITHIN, SPANS_WITHIN};
use credentials::Followers;
pub(crate) use log::LogLevel;
use metrics::Metrics;
use push::Push;
use traces::Traces;

/// Whose metrics these are, where they are of no service.
const SCOPE: &str = "service-kit";

/// A process's log, its metrics with the page on which they are read, and its traces. Cheap to clone.
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
    metrics: Metrics,
    /// Where there is a collector of metrics.
    push: Option<Arc<Push>>,
    /// Where the log is ours.
    log: Option<LogLevel>,
    traces: Traces,
}

impl Telemetry {
    /// Starts logs for the whole process, and metrics, also of the runtime that this is called on; where OpenTelemetry's variables,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` above all, name a collector, traces too, and a push of the metrics.
    ///
    /// # Errors
    /// When the log's filter is none, or the collector cannot be one. Whether it is there is no error.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: &impl Sections) -> anyhow::Result<Self> {
        let log = log::start(config.log())?;
        let telemetry = Self::metrics_only()?;
        let meter = telemetry.meter(SCOPE);
        runtime::observe(&meter, &Handle::current().metrics());
        let traces = Traces::start(config.trace(), &meter, resource())?;
        let push = Push::start(telemetry.metrics.reader(), &meter)?;
        Ok(Self {
            log: Some(log),
            traces,
            push: push.map(Arc::new),
            ..telemetry
        })
    }

    /// Metrics alone, for where somebody else takes the logs.
    pub fn metrics_only() -> anyhow::Result<Self> {
        let telemetry = Self {
            metrics: Metrics::of(resource())?,
            push: None,
            log: None,
            traces: Traces::default(),
        };
        process::observe(&telemetry.meter(SCOPE));
        Ok(telemetry)
    }

    /// A meter for the part of the program that is called `scope`.
    pub fn meter(&self, scope: &'static str) -> Meter {
        self.metrics.meter(scope)
    }

    /// Counts what of the registry could not be read, and what watches of it have missed. For a binary that only calls others, or that holds
    /// a registration for somebody else: one that serves does it by itself.
    pub fn observe_registry(&self, registry: &Registry) {
        registered::observe_registry(&self.meter(SCOPE), registry);
    }

    /// Measures how a registration stands, as `now` says; `None` where there is none. It is called at each collection, and must not
    /// block. For a binary that holds one for somebody else: one that serves does it by itself.
    pub fn observe_registration(
        &self,
        now: impl Fn() -> Option<RegistrationState> + Send + Sync + 'static,
    ) {
        self.observe_instance(now, || true);
    }

    /// The same of an instance that may be registered and not ready.
    pub(crate) fn observe_instance(
        &self,
        now: impl Fn() -> Option<RegistrationState> + Send + Sync + 'static,
        is_ready: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        registered::observe_registration(&self.meter(SCOPE), now, is_ready);
    }

    /// Measures until when the certificates are valid that are shown to the registry and, as `tls` has it, to servers; and counts changed
    /// files of either that could not be used. For a binary that only calls others: one that serves does it by itself.
    pub fn observe_credentials(&self, registry: Option<&Registry>, tls: Option<&ClientTls>) {
        let followers = Followers {
            tls: tls.and_then(ClientTls::files).cloned(),
            registry: registry.cloned(),
        };
        followers.observe(&self.meter(SCOPE));
    }

    /// How the part of the program that is called `scope` traces its calls: for a channel, `Builder::tracing` takes it. A call
    /// belongs to the one that is being served on the same task; one that is made on a task of its own belongs to nothing,
    /// unless that task is given OpenTelemetry's current context.
    pub fn tracing(&self, scope: &'static str) -> Tracing {
        self.traces.tracing(scope)
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> anyhow::Result<String> {
        self.metrics.render()
    }

    /// What is logged, where that is for this to say.
    pub(crate) fn log_level(&self) -> Option<&LogLevel> {
        self.log.as_ref()
    }

    /// Hands over what has not been handed over yet, at the end of the process; a collector that does not answer is given three
    /// seconds, for spans and metrics together. The metrics are the last, since they tell what became of the spans.
    pub async fn flush(&self) {
        let until = Instant::now() + FLUSH_WITHIN;
        let traces = self.traces.clone();
        if let Err(error) = spawn_blocking(move || traces.end(SPANS_WITHIN)).await {
            tracing::warn!(%error, "cannot hand over the last spans");
        }
        if let Some(push) = &self.push {
            push.end(until).await;
        }
    }
}

/// Tells this process from all others of the same name, also from the one before it: what is pushed is of one series for each.
static INSTANCE: LazyLock<String> = LazyLock::new(|| Uuid::new_v4().to_string());

/// Who tells all this, as OpenTelemetry's variables say: `OTEL_SERVICE_NAME`, before what `OTEL_RESOURCE_ATTRIBUTES` has, before what we
/// know.
fn resource() -> Resource {
    let resource = Resource::builder_empty()
        .with_service_name(program_name())
        .with_attribute(KeyValue::new("service.instance.id", INSTANCE.as_str()))
        .with_detector(Box::new(EnvResourceDetector::new()));
    let named = env::var("OTEL_SERVICE_NAME").ok();
    match named.filter(|name| !name.is_empty()) {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

fn program_name() -> String {
    let path = env::current_exe().ok();
    let stem = path.as_deref().and_then(|path| path.file_stem());
    stem.map_or_else(
        || "unknown".to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}
