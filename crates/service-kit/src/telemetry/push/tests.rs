use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

use opentelemetry_sdk::Resource;
use tokio::time::{advance, sleep};

use super::*;
use crate::telemetry::{FLUSH_WITHIN, metrics::Metrics};

/// A collector that takes the first so many pushes, and then hangs.
#[derive(Debug, Clone)]
struct Takes {
    most: usize,
    names: Arc<Mutex<Vec<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Takes {
    fn first(most: usize) -> Self {
        Self {
            most,
            names: Arc::default(),
            asked: Arc::default(),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl PushMetricExporter for Takes {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        if self.asked.fetch_add(1, Ordering::Relaxed) >= self.most {
            pending::<()>().await;
        }
        let scopes = metrics.scope_metrics();
        let names = scopes.flat_map(|scope| scope.metrics().map(|m| m.name().to_owned()));
        self.names.lock().expect("no panic").extend(names);
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

/// Metrics that are pushed to that collector, and what comes of it.
fn pushed(to: &Takes) -> (Metrics, Push, Arc<Sent>) {
    let metrics = Metrics::of(Resource::builder_empty().build()).expect("metrics");
    metrics
        .meter("test")
        .u64_counter("greetings")
        .build()
        .add(1, &[]);
    let sent = Arc::new(Sent::new("metrics"));
    let push = Push::spawn(metrics.reader(), to.clone(), RHYTHM, Arc::clone(&sent));
    (metrics, push, sent)
}

#[tokio::test(start_paused = true)]
async fn what_is_on_the_page_is_pushed_each_minute_and_at_the_end() {
    let collector = Takes::first(usize::MAX);
    let (metrics, push, sent) = pushed(&collector);
    sleep(Duration::from_secs(59)).await;
    assert_eq!(collector.asked(), 0);
    sleep(Duration::from_secs(62)).await;
    assert_eq!(sent.counts(), [2, 0]);
    push.end(Instant::now() + FLUSH_WITHIN).await;
    push.end(Instant::now() + FLUSH_WITHIN).await;
    assert_eq!(sent.counts(), [3, 0]);
    let names = collector.names.lock().expect("no panic").clone();
    assert_eq!(names, ["greetings"; 3]);
    let page = metrics.render().expect("a page");
    let shown = |line: &str| line.starts_with("greetings_total") && line.ends_with(" 1");
    assert!(page.lines().any(shown), "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_is_given_up_each_time_and_at_the_end_too() {
    let collector = Takes::first(1);
    let (_metrics, push, sent) = pushed(&collector);
    sleep(Duration::from_secs(121)).await;
    assert_eq!((collector.asked(), sent.counts()), (2, [1, 0]));
    // Half a minute it may take, and the next one has its minute.
    sleep(Duration::from_secs(30)).await;
    assert_eq!(sent.counts(), [1, 1]);
    let asked = Instant::now();
    push.end(Instant::now() + FLUSH_WITHIN).await;
    assert_eq!(asked.elapsed(), FLUSH_WITHIN);
    assert_eq!(collector.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_pushed_any_more_once_nobody_holds_it() {
    let collector = Takes::first(usize::MAX);
    let (_metrics, push, _) = pushed(&collector);
    drop(push);
    advance(Duration::from_hours(1)).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(collector.asked(), 0);
}

#[test]
fn the_rhythm_is_what_the_variables_say_where_they_say_a_time() {
    let rhythm = |said: &'static str| {
        Rhythm::of(|name| (name == "OTEL_METRIC_EXPORT_INTERVAL").then(|| said.to_owned()))
    };
    assert_eq!(rhythm("250").every, Duration::from_millis(250));
    for no_time in ["", "0", "-1", "soon"] {
        assert_eq!(rhythm(no_time), RHYTHM, "{no_time:?}");
    }
}
