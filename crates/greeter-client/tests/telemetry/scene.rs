//! A fleet that tells a collector all that it does.

use std::time::Duration;

use tempfile::TempDir;
use testkit::{Port, fleet::Fleet, http, until};

/// More than anything here takes on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_mins(1);

/// A fleet that sends the spans of all calls, and its metrics, to the collector at that URL.
pub(crate) fn fleet(collector: &str) -> (Fleet, TempDir) {
    let directory = TempDir::new().expect("a directory");
    let registry = format!("file://{}/registry", directory.path().display());
    let mut fleet = Fleet::new(registry).expect("the binaries are built");
    fleet.set_env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
    // In milliseconds.
    fleet.set_env("OTEL_BSP_SCHEDULE_DELAY", "100");
    fleet.set_env("OTEL_METRIC_EXPORT_INTERVAL", "100");
    fleet.set_env("DISCOVERY__TRACE__SAMPLE_RATIO", "1");
    fleet.set_env("DISCOVERY__ADMIN__LISTEN", "off");
    (fleet, directory)
}

/// Has the next process of the fleet show its metrics, on a port that is known.
pub(crate) fn page_of_the_next(fleet: &mut Fleet) -> Port {
    let port = Port::free().expect("a port");
    fleet.set_env("DISCOVERY__ADMIN__LISTEN", &port.address());
    port
}

/// The page of metrics there.
pub(crate) async fn page(port: &Port) -> String {
    let page = until(BOUND, "the page of metrics", async || {
        http::text(port.number(), "/metrics").await
    });
    page.await.expect("it is shown")
}

/// The counter of that name for this outcome.
pub(crate) fn counted(page: &str, name: &str, outcome: &str) -> u64 {
    let label = format!("outcome=\"{outcome}\"");
    let mut lines = page.lines();
    let line = lines.find(|line| line.starts_with(&format!("{name}{{")) && line.contains(&label));
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or_default()
}
