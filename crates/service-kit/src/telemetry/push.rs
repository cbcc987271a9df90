//! Metrics on their way to a collector, by OTLP: what the page shows, again and again.
//!
//! One task reads and sends, so that no call waits for a collector, and what it does not take is told with the next push: counters
//! go on from the start of the process.

use std::{
    env,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use opentelemetry::metrics::Meter;
use opentelemetry_otlp::{MetricExporter, RetryPolicy, WithTonicConfig};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    metrics::{
        Temporality, data::ResourceMetrics, exporter::PushMetricExporter, reader::MetricReader,
    },
};
use tokio::{
    select,
    time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    collector::{METRICS, Sent},
    metrics::Reader,
};

/// Where nothing else is said.
const RHYTHM: Rhythm = Rhythm {
    every: Duration::from_mins(1),
    within: Duration::from_secs(30),
};

/// How often metrics are pushed, and how long a push may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rhythm {
    every: Duration,
    within: Duration,
}

impl Rhythm {
    /// As OpenTelemetry's variables say, in milliseconds; what is no time is as if it were not there.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let millis = |name: &str| {
            let said = variable(name).filter(|said| !said.trim().is_empty())?;
            let millis = said.trim().parse().ok().filter(|millis| *millis > 0);
            if millis.is_none() {
                tracing::warn!("{name} is {said:?}, and no number of milliseconds; it is ignored");
            }
            millis.map(Duration::from_millis)
        };
        Self {
            every: millis("OTEL_METRIC_EXPORT_INTERVAL").unwrap_or(RHYTHM.every),
            within: millis("OTEL_METRIC_EXPORT_TIMEOUT").unwrap_or(RHYTHM.within),
        }
    }
}

/// Metrics being pushed, for as long as this lives.
#[derive(Debug)]
pub(super) struct Push {
    ending: CancellationToken,
    /// Until somebody waits for its end.
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Push {
    /// Pushes what is read there to the collector that the environment names, if it names one; what came of it `meter` counts.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn start(reader: Reader, meter: &Meter) -> anyhow::Result<Option<Self>> {
        if !METRICS.is_sent() {
            return Ok(None);
        }
        let exporter = MetricExporter::builder()
            // As the reader has them.
            .with_temporality(Temporality::Cumulative)
            .with_tonic()
            // The next push says all that this one would have.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .context("cannot push metrics")?;
        let sent = Arc::new(Sent::new("metrics"));
        let counted = Arc::clone(&sent);
        meter
            .u64_observable_counter("telemetry.metric_pushes")
            .with_unit("{push}")
            .with_description("Pushes of all metrics that were exported, or failed to be")
            .with_callback(move |counter| counted.observe(counter))
            .build();
        let rhythm = Rhythm::of(|name| env::var(name).ok());
        Ok(Some(Self::spawn(reader, exporter, rhythm, sent)))
    }

    fn spawn(
        reader: impl MetricReader,
        exporter: impl PushMetricExporter,
        rhythm: Rhythm,
        sent: Arc<Sent>,
    ) -> Self {
        let ending = CancellationToken::new();
        let pusher = Pusher {
            reader,
            exporter,
            rhythm,
            sent,
        };
        let task = tokio::spawn(pusher.run(ending.clone()));
        Self {
            ending,
            task: Mutex::new(Some(AbortOnDropHandle::new(task))),
        }
    }

    /// Pushes a last time, `until` then at most, and ends. Who waits a second time waits for nothing.
    pub(super) async fn end(&self, until: Instant) {
        self.ending.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(task) = { task }.take() else {
            return;
        };
        match timeout_at(until, task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "metrics are pushed no more"),
            Err(_) => {
                tracing::warn!(
                    "the last metrics are lost: the collector did not take them in time"
                );
            }
        }
    }
}

struct Pusher<R, E> {
    reader: R,
    exporter: E,
    rhythm: Rhythm,
    sent: Arc<Sent>,
}

impl<R: MetricReader, E: PushMetricExporter> Pusher<R, E> {
    async fn run(self, ending: CancellationToken) {
        let every = self.rhythm.every;
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let pushes = async {
            loop {
                ticks.tick().await;
                self.push().await;
            }
        };
        select! {
            () = pushes => {}
            () = ending.cancelled() => {}
        }
        // What was under way is in this one too.
        self.push().await;
    }

    async fn push(&self) {
        let mut metrics = ResourceMetrics::default();
        let result = match self.reader.collect(&mut metrics) {
            Ok(()) => self.export(&metrics).await,
            Err(error) => Err(error),
        };
        self.sent.ended(1, &result);
    }

    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let within = self.rhythm.within;
        let exported = timeout(within, self.exporter.export(metrics)).await;
        exported.unwrap_or(Err(OTelSdkError::Timeout(within)))
    }
}

#[cfg(test)]
mod tests;
