//! Traces: which calls have spans, and the way of these to a collector, by OTLP.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use balance::trace::Tracing;
use opentelemetry::{
    Context, KeyValue,
    metrics::Meter,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::SpanExporter as OtlpExporter;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData,
        SpanExporter, SpanProcessor,
    },
};

use super::collector::{Sent, TRACES};
use crate::config::TraceConfig;

/// Spans that may wait for the collector; what is more is lost.
const QUEUE: usize = 4096;

/// Where a process's spans go: without a collector nowhere. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Traces {
    provider: Option<SdkTracerProvider>,
    way: Arc<Way>,
    /// Of the calls that belong to nothing.
    share: f64,
}

impl Traces {
    /// Sends spans to the collector that the environment names, if it names one; how many arrive `meter` counts.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn start(
        config: &TraceConfig,
        meter: &Meter,
        resource: Resource,
    ) -> anyhow::Result<Self> {
        if !TRACES.is_sent() {
            return Ok(Self::default());
        }
        let exporter = OtlpExporter::builder().with_tonic().build();
        let exporter = exporter.context("cannot export traces")?;
        let way = Arc::new(Way::default());
        way.observe(meter);
        let provider = SdkTracerProvider::builder()
            // Who has a span made has decided already.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .with_span_processor(Bounded::new(exporter, Arc::clone(&way)));
        Ok(Self {
            provider: Some(provider.build()),
            way,
            share: config.sample_ratio,
        })
    }

    /// How the part of the program that is called `scope` traces.
    pub(super) fn tracing(&self, scope: &'static str) -> Tracing {
        let tracing = Tracing::default().entered_by(|span, log| {
            let context = Context::new().with_remote_span_context(span.clone());
            let _now = context.attach();
            log();
        });
        match &self.provider {
            Some(provider) => tracing.with_spans(provider.tracer(scope), self.share),
            None => tracing,
        }
    }

    /// Hands over what has not been handed over yet, for so long at most, and ends: no span is made any more. It blocks.
    pub(super) fn end(&self, within: Duration) {
        let Some(provider) = &self.provider else {
            return;
        };
        if let Err(error) = provider.shutdown_with_timeout(within) {
            let spans = self.way.waiting.load(Ordering::Relaxed);
            self.way.sent.lost(spans);
            tracing::warn!(%error, spans, "spans are lost that the collector did not take in time");
        }
    }
}

/// What becomes of spans.
#[derive(Debug)]
struct Way {
    /// Until it is known what became of them.
    waiting: AtomicUsize,
    sent: Sent,
    /// There was no room for them.
    dropped: AtomicU64,
    /// The process ends.
    ending: AtomicBool,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            sent: Sent::new("spans"),
            dropped: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        }
    }
}

impl Way {
    fn observe(self: &Arc<Self>, meter: &Meter) {
        let way = Arc::clone(self);
        meter
            .u64_observable_counter("telemetry.spans")
            .with_unit("{span}")
            .with_description(
                "Spans that were exported, dropped because too many waited, or failed to be exported",
            )
            .with_callback(move |counter| {
                way.sent.observe(counter);
                let dropped = way.dropped.load(Ordering::Relaxed);
                counter.observe(dropped, &[KeyValue::new("outcome", "dropped")]);
            })
            .build();
    }

    /// The process ends, and is not to wait for a collector that has not taken the last ones.
    fn is_in_vain(&self) -> bool {
        self.ending.load(Ordering::Relaxed) && self.sent.is_failing()
    }

    /// Whether there is room for one more.
    fn enter(&self) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE {
            return true;
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                waiting = QUEUE,
                "spans are dropped: too many wait for the collector"
            );
        }
        false
    }
}

/// Hands spans in batches to a thread of its own, so that no call waits for a collector.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    way: Arc<Way>,
}

impl Bounded {
    fn new(exporter: impl SpanExporter + 'static, way: Arc<Way>) -> Self {
        let exporter = Counted {
            exporter,
            way: Arc::clone(&way),
        };
        // What waits is counted before it is queued there, so that this queue is never full.
        let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE);
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config.build());
        Self {
            batches: batches.build(),
            way,
        }
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.way.enter() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.way.ending.store(true, Ordering::Relaxed);
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what becomes of the spans of each batch.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    way: Arc<Way>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = if self.way.is_in_vain() {
            Err(OTelSdkError::AlreadyShutdown)
        } else {
            self.exporter.export(batch).await
        };
        self.way.waiting.fetch_sub(count, Ordering::Relaxed);
        self.way.sent.ended(count, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;
    use opentelemetry::trace::Tracer;

    /// A collector that takes a batch when it is let, and says that.
    #[derive(Debug)]
    struct Slow(Mutex<mpsc::Receiver<OTelSdkResult>>);

    impl SpanExporter for Slow {
        async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
            let let_go = self.0.lock().expect("no panic holds it").recv();
            let_go.unwrap_or(Ok(()))
        }
    }

    fn counts(way: &Way) -> [u64; 3] {
        let [exported, failed] = way.sent.counts();
        [exported, way.dropped.load(Ordering::Relaxed), failed]
    }

    /// Spans on their way to that collector, as they are counted.
    fn on_the_way(to: Slow) -> (SdkTracerProvider, Arc<Way>) {
        let way = Arc::new(Way::default());
        let bounded = Bounded::new(to, Arc::clone(&way));
        let provider = SdkTracerProvider::builder().with_span_processor(bounded);
        (provider.build(), way)
    }

    fn refused() -> OTelSdkResult {
        Err(OTelSdkError::InternalFailure("no".to_owned()))
    }

    #[test]
    fn a_collector_that_hangs_keeps_nobody_and_what_is_lost_is_counted() {
        let (let_go, lets) = mpsc::channel();
        let (provider, way) = on_the_way(Slow(Mutex::new(lets)));
        let tracer = provider.tracer("test");
        let spans = 3 * QUEUE as u64;
        // Were one of them to wait for the collector, this would not end.
        (0..spans).for_each(|_| drop(tracer.start("span")));
        let [exported, dropped, failed] = counts(&way);
        assert_eq!((exported, failed), (0, 0));
        assert_eq!(dropped, spans - QUEUE as u64);

        drop(let_go);
        provider.shutdown().expect("all that is left is taken");
        let [exported, still_dropped, failed] = counts(&way);
        assert_eq!((still_dropped, failed), (dropped, 0));
        assert_eq!(exported + dropped, spans);
        assert_eq!(way.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_a_collector_has_not_taken_by_the_end_is_counted() {
        let (let_go, lets) = mpsc::channel();
        let (provider, way) = on_the_way(Slow(Mutex::new(lets)));
        let tracer = provider.tracer("test");
        (0..3).for_each(|_| drop(tracer.start("span")));
        let ending = Traces {
            provider: Some(provider),
            way: Arc::clone(&way),
            share: 1.0,
        };
        ending.end(Duration::from_millis(50));
        assert_eq!(counts(&way), [0, 0, 3]);
        drop(let_go);
    }

    #[test]
    fn a_collector_that_has_not_taken_the_last_spans_is_not_waited_for_at_the_end() {
        let (let_go, lets) = mpsc::channel();
        let (provider, way) = on_the_way(Slow(Mutex::new(lets)));
        let tracer = provider.tracer("test");
        let_go.send(refused()).expect("it listens");
        drop(tracer.start("refused"));
        provider.force_flush().expect_err("it is refused");
        assert_eq!(counts(&way), [0, 0, 1]);

        drop(tracer.start("last"));
        // Were it asked, it would hang.
        provider.shutdown().expect("nobody is waited for");
        assert_eq!(counts(&way), [0, 0, 2]);
    }
}
