//! Traces: through the processes that a call goes through, with its retries.

use testkit::{
    Port, Unable, eventually,
    otlp::{Collector, Span, drawn, hex},
};
use tokio::net::TcpListener;

use crate::scene::{BOUND, counted, fleet, page, page_of_the_next};

#[tokio::test]
async fn one_trace_goes_from_the_caller_to_the_greeter_that_answered_with_its_retry() {
    let collector = Collector::start().await.expect("a collector");
    let (mut fleet, _directory) = fleet(collector.endpoint());
    fleet.set_env(
        "DISCOVERY__LOG__LEVEL",
        "info,tower_http=debug,balance=debug",
    );
    let able = fleet.add().await.expect("a greeter");
    let unable = Unable::start().await.expect("a server");
    let unable = unable.address();

    // In turns: every other call goes to who cannot, and then to who can.
    let target = format!("static:///{unable},{able}");
    let client = fleet
        .client(&[
            "--target",
            &target,
            "--forever",
            "--interval",
            "20ms",
            "--timeout",
            "30s",
        ])
        .expect("a client");
    let method = "helloworld.Greeter/SayHello";
    let expected = [
        format!("greeter-client CLIENT {method} OK"),
        format!("  greeter-client INTERNAL Attempt.{method} UNAVAILABLE by {unable} (round_robin)"),
        format!("  greeter-client INTERNAL Attempt.{method} OK by {able} (round_robin)"),
        format!("    greeter-server SERVER {method} OK"),
    ];
    let mut found = None;
    eventually(BOUND, "a call with a retry", async || {
        let mut traces = collector.traces().into_iter();
        found = traces.find(|trace| drawn(trace) == expected);
        found.is_some()
    })
    .await;
    client.interrupt().expect("it runs");
    let (status, _) = client.end(BOUND).await.expect("it ends");
    assert!(status.success());

    let trace = found.expect("it was there");
    for (name, value) in [("server.address", "127.0.0.1"), ("rpc.method", method)] {
        assert_eq!(trace[3].attribute(name).as_deref(), Some(value));
    }
    // What either has logged of the call tells to which trace it belongs: also who has begun it.
    let ids = |span: &Span| {
        let (trace, span) = (hex(&span.trace_id), hex(&span.span_id));
        format!("trace_id={trace} span_id={span}")
    };
    let greeter = fleet.servers()[0].process();
    for (process, span, words) in [
        (greeter, &trace[3].span, "processing request"),
        (client.process(), &trace[0].span, "the call is tried again"),
    ] {
        let line = process.wait_for_line(&ids(span), BOUND).await;
        let line = line.expect("a line of the call");
        assert!(line.contains(words), "{line}");
    }
}

#[tokio::test]
async fn what_is_left_is_handed_over_at_the_end() {
    let collector = Collector::start().await.expect("a collector");
    let (mut fleet, _directory) = fleet(collector.endpoint());
    // Later than anything here takes.
    fleet.set_env("OTEL_BSP_SCHEDULE_DELAY", "600000");
    let address = fleet.add().await.expect("a greeter");
    let client = fleet
        .client(&["--count", "10", "--timeout", "30s", "--output", "json"])
        .expect("a client");
    let figures = client.figures(BOUND).await.expect("figures");
    assert_eq!((figures.calls, figures.failures), (10, 0));
    let of = |service: &str| {
        let spans = collector.spans();
        spans.iter().filter(|r| r.service == service).count()
    };
    assert_eq!((of("greeter-client"), of("greeter-server")), (20, 0));
    fleet.stop(&address).await.expect("it drains and ends");
    assert_eq!(of("greeter-server"), 10);
}

#[tokio::test]
async fn a_collector_that_is_down_or_hangs_costs_no_call_and_its_loss_is_counted() {
    let down = Port::free().expect("a port");
    // Takes connections, and never says a word.
    let hangs = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hanging = hangs.local_addr().expect("bound").to_string();
    for collector in [down.address(), hanging] {
        let (mut fleet, _directory) = fleet(&format!("http://{collector}"));
        fleet.set_env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000");
        let admin = page_of_the_next(&mut fleet);
        let address = fleet.add().await.expect("a greeter");
        fleet.set_env("DISCOVERY__ADMIN__LISTEN", "off");
        let client = fleet
            .client(&["--count", "500", "--timeout", "30s", "--output", "json"])
            .expect("a client");
        let figures = client.figures(BOUND).await.expect("figures");
        assert_eq!((figures.calls, figures.failures), (500, 0), "{collector}");

        let both = ["telemetry_spans_total", "telemetry_metric_pushes_total"];
        eventually(BOUND, "spans and metrics that are lost", async || {
            let page = page(&admin).await;
            both.iter().all(|name| counted(&page, name, "failed") > 1)
        })
        .await;
        let greeter = fleet.servers()[0].process();
        for what in ["spans", "metrics"] {
            let warned = format!("the collector takes no {what}");
            greeter.wait_for_line(&warned, BOUND).await.expect("a word");
            let lines = greeter.output();
            let said = lines.iter().filter(|line| line.text.contains(&warned));
            assert_eq!(said.count(), 1, "it is said once");
        }
        // It ends in time, whatever the collector does.
        fleet.stop(&address).await.expect("it ends well");
    }
}

#[tokio::test]
async fn no_call_waits_for_a_collector_that_is_given_an_hour() {
    // More than are kept for it, so that a call that made room by waiting would be found as well.
    const CALLS: u64 = 6_000;
    let hangs = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hanging = hangs.local_addr().expect("bound");
    let (mut fleet, _directory) = fleet(&format!("http://{hanging}"));
    fleet.set_env("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000");
    let admin = page_of_the_next(&mut fleet);
    fleet.add().await.expect("a greeter");
    fleet.set_env("DISCOVERY__ADMIN__LISTEN", "off");
    let count = CALLS.to_string();
    let load = ["--count", &*count, "--concurrency", "8"];
    let told = ["--timeout", "30s", "--output", "json"];
    let client = fleet.client(&[&load[..], &told].concat());
    let figures = client.expect("a client").figures(BOUND).await;
    let figures = figures.expect("figures");
    assert_eq!((figures.calls, figures.failures), (CALLS, 0));
    eventually(BOUND, "spans that found no room", async || {
        counted(&page(&admin).await, "telemetry_spans_total", "dropped") > 0
    })
    .await;
    // It has answered nothing, and nobody has given it up yet: whoever waited for it would wait still.
    let page = page(&admin).await;
    for outcome in ["exported", "failed"] {
        assert_eq!(counted(&page, "telemetry_spans_total", outcome), 0);
    }
}
