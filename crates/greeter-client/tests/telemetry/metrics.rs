//! Metrics that are pushed: those of the page.

use std::collections::BTreeSet;

use testkit::{
    Port, eventually,
    otlp::{Collector, Metric, metric::Data, number_data_point::Value},
};

use crate::scene::{BOUND, counted, fleet, page, page_of_the_next};

/// The metrics of a page, less what their units and kinds add to the names, and less those that only a page has.
fn on_the_page(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split(' ').next());
    let names = names.filter(|name| *name != "target_info").map(|name| {
        let name = name.trim_end_matches("_total");
        let units = ["_seconds", "_bytes"];
        let bare = units.iter().find_map(|unit| name.strip_suffix(unit));
        bare.unwrap_or(name).to_owned()
    });
    names.collect()
}

/// How many calls were served, as a histogram says.
fn served(metrics: &[Metric]) -> u64 {
    let duration = metrics
        .iter()
        .find(|m| m.name == "rpc.server.call.duration");
    match duration.and_then(|metric| metric.data.as_ref()) {
        Some(Data::Histogram(histogram)) => histogram.data_points.iter().map(|p| p.count).sum(),
        Some(other) => panic!("no histogram: {other:?}"),
        None => 0,
    }
}

fn number(metrics: &[Metric], name: &str) -> Option<i64> {
    let metric = metrics.iter().find(|metric| metric.name == name)?;
    let points = match metric.data.as_ref()? {
        Data::Gauge(gauge) => &gauge.data_points,
        Data::Sum(sum) => &sum.data_points,
        other => panic!("{name} is {other:?}"),
    };
    match points.first()?.value? {
        Value::AsInt(number) => Some(number),
        Value::AsDouble(number) => panic!("{name} is {number}"),
    }
}

#[tokio::test]
async fn what_the_page_shows_is_pushed_and_at_the_end_once_more() {
    let collector = Collector::start().await.expect("a collector");
    let (mut fleet, _directory) = fleet(collector.endpoint());
    let admin = page_of_the_next(&mut fleet);
    let address = fleet.add().await.expect("a greeter");
    fleet.set_env("DISCOVERY__ADMIN__LISTEN", "off");
    // The client ends long before its first minute is over.
    fleet.set_env("OTEL_METRIC_EXPORT_INTERVAL", "");
    let client = fleet
        .client(&["--count", "10", "--timeout", "30s", "--output", "json"])
        .expect("a client");
    let figures = client.figures(BOUND).await.expect("figures");
    assert_eq!((figures.calls, figures.failures), (10, 0));
    let told = collector.metrics("greeter-client");
    assert_eq!(number(&told, "grpc.client.attempt.started"), Some(10));
    assert_eq!(number(&told, "discovery.undecodable"), Some(0));

    eventually(BOUND, "ten calls that are pushed", async || {
        served(&collector.metrics("greeter-server")) == 10
    })
    .await;
    // The collector knows before the pusher does.
    let exported = async || {
        counted(
            &page(&admin).await,
            "telemetry_metric_pushes_total",
            "exported",
        )
    };
    eventually(BOUND, "a push that is counted", async || {
        exported().await > 0
    })
    .await;
    let shown = page(&admin).await;
    let pushed = collector.metrics("greeter-server");
    let pushed: BTreeSet<_> = pushed.iter().map(|m| m.name.replace('.', "_")).collect();
    assert_eq!(pushed, on_the_page(&shown));

    fleet.stop(&address).await.expect("it drains and ends");
    let told = collector.metrics("greeter-server");
    // The last word is of the end, and not of a moment before it.
    assert_eq!(number(&told, "discovery.registered"), Some(0));
}

#[tokio::test]
async fn two_instances_of_a_service_are_two_to_a_collector() {
    let collector = Collector::start().await.expect("a collector");
    let (mut fleet, _directory) = fleet(collector.endpoint());
    for _ in 0..2 {
        fleet.add().await.expect("a greeter");
    }
    let told = async || collector.pushers("greeter-server") == 2;
    eventually(BOUND, "a push of each", told).await;
}

#[tokio::test]
async fn a_collector_that_comes_late_is_told_all_that_was_counted_before() {
    let late = Port::free().expect("a port");
    let (mut fleet, _directory) = fleet(&format!("http://{}", late.address()));
    fleet.set_env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    let address = fleet.add().await.expect("a greeter");
    let client = fleet
        .client(&["--count", "10", "--timeout", "30s", "--output", "json"])
        .expect("a client");
    assert_eq!(client.figures(BOUND).await.expect("figures").failures, 0);
    let greeter = fleet.servers()[0].process();
    let lost = "the collector takes no metrics";
    greeter.wait_for_line(lost, BOUND).await.expect("a word");

    let collector = Collector::start_at(&late).await.expect("a collector");
    let again = "the collector takes metrics again";
    greeter.wait_for_line(again, BOUND).await.expect("a word");
    assert_eq!(served(&collector.metrics("greeter-server")), 10);
    fleet.stop(&address).await.expect("it drains and ends");
}

#[tokio::test]
async fn who_wants_no_metrics_pushed_says_none_and_has_the_page_and_the_traces() {
    let collector = Collector::start().await.expect("a collector");
    let (mut fleet, _directory) = fleet(collector.endpoint());
    fleet.set_env("OTEL_METRICS_EXPORTER", "none");
    let admin = page_of_the_next(&mut fleet);
    let address = fleet.add().await.expect("a greeter");
    fleet.set_env("DISCOVERY__ADMIN__LISTEN", "off");
    let client = fleet
        .client(&["--count", "1", "--timeout", "30s", "--output", "json"])
        .expect("a client");
    assert_eq!(client.figures(BOUND).await.expect("figures").failures, 0);
    assert!(on_the_page(&page(&admin).await).contains("rpc_server_call_duration"));
    fleet.stop(&address).await.expect("it drains and ends");
    assert_eq!(collector.spans().len(), 3);
    for service in ["greeter-server", "greeter-client"] {
        assert!(collector.metrics(service).is_empty(), "{service}");
    }
}
