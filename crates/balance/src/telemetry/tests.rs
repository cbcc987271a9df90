//! What an exporter sees of calls.

use std::{sync::Arc, time::Duration};

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::TextEncoder;
use tokio::time::{Instant, advance};

use super::{Labels, Named, Telemetry};
use crate::{
    endpoint::Endpoint,
    outlier::{Outlier, Spared, Why},
    policy::tests::instance,
    status::Code,
    trace::{TracedAttempt, TracedCall},
};

/// Measurements of a channel to `greeter`, and the page that shows them.
struct Page {
    shown: prometheus::Registry,
    telemetry: Telemetry,
    _provider: SdkMeterProvider,
}

impl Page {
    fn new() -> Self {
        let page = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter().with_registry(page.clone());
        let reader = exporter.build().expect("an exporter");
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        let meter = provider.meter("balance");
        Self {
            shown: page,
            telemetry: Telemetry::new(
                &meter,
                &"greeter".into(),
                Named::FirstCalled,
                Labels::default(),
            ),
            _provider: provider,
        }
    }

    /// The figure of the series of that name whose labels have all of these in them.
    fn figure(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = TextEncoder::new().encode_to_string(&self.shown.gather());
        let text = text.expect("text");
        let mut lines = text.lines().filter(|line| {
            let named = line.strip_prefix(name);
            named.is_some_and(|rest| rest.starts_with('{'))
                && labels.iter().all(|label| line.contains(label))
        });
        let figure = lines.next()?.rsplit(' ').next()?.parse().ok();
        assert_eq!(lines.next(), None, "{name} {labels:?} is not one series");
        figure
    }
}

const SAY_HELLO: &str = "grpc_method=\"helloworld.Greeter/SayHello\"";

fn endpoint() -> Endpoint {
    Endpoint::new(Arc::new(instance(1)))
}

fn status(code: Code) -> String {
    format!("grpc_status=\"{}\"", code.name())
}

const ATTEMPTS: &str = "grpc_client_attempt_duration_seconds_count";
const CALLS: &str = "rpc_client_call_duration_seconds_count";

fn call_status(code: Code) -> String {
    format!("rpc_response_status_code=\"{}\"", code.name())
}

#[tokio::test(start_paused = true)]
async fn a_call_is_measured_by_method_target_and_status() {
    let page = Page::new();
    let call = page.telemetry.call(
        "/helloworld.Greeter/SayHello",
        TracedCall::Not,
        Instant::now(),
    );
    let mut attempt = call.attempt(&endpoint(), Instant::now(), TracedAttempt::default());
    let started = "grpc_client_attempt_started_total";
    let target = "grpc_target=\"greeter\"";
    assert_eq!(page.figure(started, &[SAY_HELLO, target]), Some(1.0));
    attempt.sending().sent(b"\0\0\0\0\x03abc");
    attempt.received(b"\0\0\0\0");
    attempt.received(b"\x02hi\0\0\0\0\x01!");
    advance(Duration::from_millis(250)).await;
    attempt.ended(Code::Ok, Instant::now());
    call.ended(Code::Ok);
    drop((attempt, call));
    let ok = status(Code::Ok);
    let figure = |name: &str| page.figure(name, &[SAY_HELLO, target, &ok]);
    let duration = "grpc_client_attempt_duration_seconds";
    assert_eq!(figure(&format!("{duration}_sum")), Some(0.25));
    let quarter = [SAY_HELLO, ok.as_str(), "le=\"0.25\""];
    let fifth = [SAY_HELLO, ok.as_str(), "le=\"0.2\""];
    let buckets = format!("{duration}_bucket");
    assert_eq!(page.figure(&buckets, &quarter), Some(1.0));
    assert_eq!(page.figure(&buckets, &fifth), Some(0.0));
    let of_calls = [
        "rpc_system_name=\"grpc\"",
        "rpc_method=\"helloworld.Greeter/SayHello\"",
        "server_address=\"greeter\"",
        target,
        "rpc_response_status_code=\"OK\"",
    ];
    let seconds = "rpc_client_call_duration_seconds_sum";
    assert_eq!(page.figure(seconds, &of_calls), Some(0.25));
    assert_eq!(page.figure(seconds, &["error_type="]), None);
    let quarter = ["le=\"0.25\""];
    let buckets = "rpc_client_call_duration_seconds_bucket";
    assert_eq!(page.figure(buckets, &quarter), Some(1.0));
    // As for calls that are served: what takes no time is told apart from what takes some.
    assert_eq!(page.figure(buckets, &["le=\"0.00025\""]), Some(0.0));
    let size =
        |way: &str| format!("grpc_client_attempt_{way}_total_compressed_message_size_bytes_sum");
    assert_eq!(figure(&size("sent")), Some(3.0));
    assert_eq!(figure(&size("rcvd")), Some(3.0));
    // A call without further attempts says nothing of them.
    assert_eq!(page.figure("grpc_client_call_retries_count", &[]), None);
}

#[tokio::test(start_paused = true)]
async fn who_is_dropped_untold_was_given_up_or_was_too_late() {
    let page = Page::new();
    let until = Instant::now() + Duration::from_secs(1);
    let measured = || {
        let mut call = page.telemetry.call(
            "/helloworld.Greeter/SayHello",
            TracedCall::Not,
            Instant::now(),
        );
        call.until(Some(until));
        (
            call.attempt(&endpoint(), Instant::now(), TracedAttempt::default()),
            call,
        )
    };
    drop(measured());
    let late = measured();
    advance(Duration::from_secs(1)).await;
    drop(late);
    for code in [Code::Cancelled, Code::DeadlineExceeded] {
        for (count, status) in [(ATTEMPTS, status(code)), (CALLS, call_status(code))] {
            let figure = page.figure(count, &[&status]);
            assert_eq!(figure, Some(1.0), "{count} {}", code.name());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_told_first_is_how_it_ended() {
    let page = Page::new();
    let call = page.telemetry.call(
        "/helloworld.Greeter/SayHello",
        TracedCall::Not,
        Instant::now(),
    );
    call.ended(Code::Unavailable);
    call.ended(Code::Ok);
    drop(call);
    let unavailable = [
        &*call_status(Code::Unavailable),
        "error_type=\"UNAVAILABLE\"",
    ];
    assert_eq!(page.figure(CALLS, &unavailable), Some(1.0));
    assert_eq!(page.figure(CALLS, &[&call_status(Code::Ok)]), None);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_as_the_attempt_does_that_answers_it() {
    let page = Page::new();
    let calls = ["before", "after"].map(|told| {
        let mut call = page.telemetry.call(
            "/helloworld.Greeter/SayHello",
            TracedCall::Not,
            Instant::now(),
        );
        let mut attempt = call.attempt(&endpoint(), Instant::now(), TracedAttempt::default());
        if told == "before" {
            attempt.ended(Code::NotFound, Instant::now());
        }
        call.ends_as(&attempt);
        attempt.ended(Code::NotFound, Instant::now());
        call.ends_as(&attempt);
        (attempt, call)
    });
    drop(calls);
    let not_found = call_status(Code::NotFound);
    assert_eq!(page.figure(CALLS, &[&not_found]), Some(2.0));
}

#[tokio::test(start_paused = true)]
async fn further_attempts_are_counted_by_their_kind() {
    let page = Page::new();
    let call = page.telemetry.call(
        "/helloworld.Greeter/SayHello",
        TracedCall::Not,
        Instant::now(),
    );
    call.retried(Duration::from_millis(20));
    call.retried(Duration::from_millis(30));
    call.retried_transparently();
    call.hedged();
    drop(call);
    let sum = |what: &str| page.figure(&format!("grpc_client_call_{what}_sum"), &[SAY_HELLO]);
    assert_eq!(sum("retries"), Some(2.0));
    assert_eq!(sum("transparent_retries"), Some(1.0));
    assert_eq!(sum("hedges"), Some(1.0));
    assert_eq!(sum("retry_delay_seconds"), Some(0.05));
}

#[test]
fn outliers_are_counted_by_what_found_them_and_what_spared_them() {
    let page = Page::new();
    let found = |spared| {
        let why = Why::ConsecutiveFailures { failures: 5 };
        let serial = 1;
        page.telemetry.found(&Outlier {
            serial,
            why,
            spared,
        });
    };
    found(None);
    found(Some(Spared::Share));
    found(Some(Spared::Share));
    let figure = |name: &str, labels: &[&str]| {
        page.figure(&format!("grpc_lb_outlier_detection_{name}_total"), labels)
    };
    let method = "detection_method=\"consecutive_failures\"";
    assert_eq!(figure("ejections_enforced", &[method]), Some(1.0));
    let reason = "unenforced_reason=\"max_ejection_overflow\"";
    let labels = [method, reason];
    assert_eq!(figure("ejections_unenforced", &labels), Some(2.0));
}

#[test]
fn without_a_meter_nothing_is_held() {
    let call = Telemetry::default().call(
        "/helloworld.Greeter/SayHello",
        TracedCall::Not,
        Instant::now(),
    );
    let mut attempt = call.attempt(&endpoint(), Instant::now(), TracedAttempt::default());
    assert!(call.keeps_nothing() && attempt.keeps_nothing());
    assert!(attempt.sending().0.is_none());
}
