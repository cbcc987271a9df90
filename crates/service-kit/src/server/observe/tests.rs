use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use balance::trace::{Tracing, header};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use opentelemetry::{
    Context, SpanId, TraceId,
    trace::{
        SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, TraceState, TracerProvider,
    },
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use registry::Address;
use tokio::time::timeout;
use tower::{Layer, Service, service_fn};

use super::{Calls, Code, Observe, Traces};
use crate::Telemetry;

const METHOD: &str = "/helloworld.Greeter/SayHello";

/// Keeps all spans that end.
#[derive(Debug, Clone, Default)]
struct Ended(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Ended {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no panic holds it").extend(batch);
        Ok(())
    }
}

/// The layer, and all that it tells.
struct Told {
    observe: Observe,
    spans: Ended,
    metrics: Telemetry,
    calls: Calls,
}

impl Told {
    /// Of calls of which this share is traced when they belong to nothing.
    fn new(share: f64) -> Self {
        let spans = Ended::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone());
        let tracer = provider.build().tracer("test");
        let tracing = Tracing::within(|| SpanContext::NONE).with_spans(tracer, share);
        Self::by(tracing, spans)
    }

    /// Of calls in a process without a collector.
    fn without_a_collector() -> Self {
        Self::by(Tracing::within(|| SpanContext::NONE), Ended::default())
    }

    fn by(tracing: Tracing, spans: Ended) -> Self {
        let address = Address::new("10.0.0.7:50051").expect("an address");
        let metrics = Telemetry::metrics_only().expect("metrics");
        let calls = Calls::new(&metrics.meter("test"));
        Self {
            observe: Observe::new(calls.clone(), Traces::new(tracing, &address)),
            spans,
            metrics,
            calls,
        }
    }

    fn spans(&self) -> Vec<SpanData> {
        self.spans.0.lock().expect("no panic holds it").clone()
    }

    /// What the only span says, and what the only metric of a call does: method, status, and error, if it is one.
    fn both(&self) -> [[Option<String>; 3]; 2] {
        let names = ["rpc.method", "rpc.response.status_code", "error.type"];
        let spans = self.spans();
        let [span] = spans.as_slice() else {
            panic!("{spans:?}");
        };
        let page = self.metrics.render().expect("a page");
        let counts = |line: &&str| line.starts_with("rpc_server_call_duration_seconds_count");
        let counts: Vec<_> = page.lines().filter(counts).collect();
        let [count] = counts.as_slice() else {
            panic!("{counts:?}");
        };
        assert!(count.ends_with(" 1"), "{count}");
        let label = |name: &str| {
            let (_, after) = count.split_once(&format!("{}=\"", name.replace('.', "_")))?;
            after.split('"').next().map(str::to_owned)
        };
        [names.map(|name| attribute(span, name)), names.map(label)]
    }
}

fn request(path: &str) -> Request<()> {
    Request::post(path).body(()).expect("a request")
}

/// What the handler finds to be current, and the spans of the call of `path` with that parent, which ends with `code`.
async fn served(
    share: f64,
    path: &str,
    parent: Option<TraceFlags>,
    code: Code,
) -> (SpanContext, Vec<SpanData>) {
    served_by(Told::new(share), path, parent, code).await
}

async fn served_by(
    told: Told,
    path: &str,
    parent: Option<TraceFlags>,
    code: Code,
) -> (SpanContext, Vec<SpanData>) {
    let handler = service_fn(async |_: Request<()>| {
        let response = Response::builder().header("grpc-status", code as i32);
        let body = Full::new(Bytes::new());
        let mut response = response.body(body).expect("a response");
        response.extensions_mut().insert(current());
        Ok::<_, Infallible>(response)
    });
    let mut request = request(path);
    if let Some(flags) = parent {
        header::write(&context(flags), request.headers_mut());
    }
    let mut service = told.observe.layer(handler);
    let response = service.call(request).await.expect("infallible");
    let (head, body) = response.into_parts();
    let seen = head.extensions.get::<SpanContext>().cloned();
    body.collect().await.expect("infallible");
    assert!(!current().is_valid(), "the call is over");
    (seen.expect("the handler has put it there"), told.spans())
}

/// What is told of a call with a second's timeout that nobody answers, and that is dropped after so many milliseconds.
async fn given_up_after(millis: u64) -> Told {
    let told = Told::new(1.0);
    let handler = service_fn(|_: Request<()>| pending::<Result<Response<String>, Infallible>>());
    let mut request = request(METHOD);
    let second = HeaderValue::from_static("1S");
    request.headers_mut().insert("grpc-timeout", second);
    let call = told.observe.layer(handler).call(request);
    assert_eq!(told.calls.in_flight(), 1);
    let given_up = timeout(Duration::from_millis(millis), call).await;
    given_up.err().expect("nobody answers");
    assert_eq!(told.calls.in_flight(), 0);
    told
}

fn current() -> SpanContext {
    Context::map_current(|now| now.span().span_context().clone())
}

fn context(flags: TraceFlags) -> SpanContext {
    let (trace, span) = (TraceId::from(7), SpanId::from(8));
    SpanContext::new(trace, span, flags, true, TraceState::NONE)
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|a| a.key.as_str() == name);
    found.map(|attribute| attribute.value.to_string())
}

#[tokio::test]
async fn what_a_handler_does_belongs_to_the_span_of_its_call() {
    let (seen, spans) = served(0.0, METHOD, Some(TraceFlags::SAMPLED), Code::Ok).await;
    let [span] = spans.as_slice() else {
        panic!("{spans:?}");
    };
    assert_eq!(seen, span.span_context);
    assert_eq!(span.span_kind, SpanKind::Server);
    assert_eq!(span.parent_span_id, SpanId::from(8));
    assert_eq!(span.span_context.trace_id(), TraceId::from(7));
    assert!(span.parent_span_is_remote);
    assert_eq!(span.name, "helloworld.Greeter/SayHello");
    for (name, value) in [
        ("rpc.method", "helloworld.Greeter/SayHello"),
        ("server.address", "10.0.0.7"),
        ("server.port", "50051"),
        ("rpc.response.status_code", "OK"),
    ] {
        assert_eq!(attribute(span, name).as_deref(), Some(value));
    }
}

#[tokio::test]
async fn a_call_that_is_not_sampled_has_no_span_and_what_it_makes_knows_that() {
    let refused = Some(TraceFlags::NOT_SAMPLED);
    let (seen, spans) = served(1.0, METHOD, refused, Code::Ok).await;
    assert_eq!(seen, context(TraceFlags::NOT_SAMPLED));
    assert!(spans.is_empty());

    let (seen, spans) = served(0.0, METHOD, None, Code::Ok).await;
    assert!(seen.is_valid() && !seen.is_sampled());
    assert!(spans.is_empty());
}

#[tokio::test]
async fn without_a_collector_a_call_has_ids_of_its_own_unless_its_caller_has_given_it_some() {
    let serve = async |parent| {
        let told = Told::without_a_collector();
        served_by(told, METHOD, parent, Code::Ok).await.0
    };
    let [one, another] = [serve(None).await, serve(None).await];
    assert!(one.is_valid() && !one.is_sampled(), "{one:?}");
    assert_ne!(one.trace_id(), another.trace_id());
    let asked = TraceFlags::SAMPLED;
    assert_eq!(serve(Some(asked)).await, context(asked));
}

#[tokio::test]
async fn a_health_check_begins_no_trace_and_belongs_to_its_callers() {
    let path = "/grpc.health.v1.Health/Watch";
    let (seen, spans) = served(1.0, path, None, Code::Ok).await;
    assert!(!seen.is_valid() && spans.is_empty());
    let asked = Some(TraceFlags::SAMPLED);
    assert_eq!(served(0.0, path, asked, Code::Ok).await.1.len(), 1);
}

#[tokio::test]
async fn a_span_fails_by_the_servers_fault_only() {
    for (code, name, is_fault) in [
        (Code::NotFound, "NOT_FOUND", false),
        (Code::Cancelled, "CANCELLED", false),
        (Code::Internal, "INTERNAL", true),
        (Code::Unavailable, "UNAVAILABLE", true),
    ] {
        let (_, spans) = served(1.0, METHOD, None, code).await;
        let status = attribute(&spans[0], "rpc.response.status_code");
        assert_eq!(status.as_deref(), Some(name));
        assert_eq!(spans[0].status == Status::error(""), is_fault, "{name}");
        let error = attribute(&spans[0], "error.type");
        assert_eq!(error.is_some(), is_fault, "{name}");
    }
}

#[tokio::test]
async fn what_is_not_served_shares_one_name_and_a_path_that_is_too_long_is_not_kept() {
    let (_, spans) = served(1.0, "/no/such", None, Code::Unimplemented).await;
    assert_eq!(spans[0].name, "_OTHER");
    let original = attribute(&spans[0], "rpc.method_original");
    assert_eq!(original.as_deref(), Some("no/such"));
    let long = format!("/{}", "x".repeat(1000));
    let (_, spans) = served(1.0, &long, None, Code::Ok).await;
    assert_eq!(spans[0].name, "_OTHER");
    assert_eq!(
        attribute(&spans[0], "rpc.method").as_deref(),
        Some("_OTHER")
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_ended_at_its_deadline_or_by_its_caller_and_its_span_and_metric_agree()
 {
    for (millis, status, error) in [
        (900, "CANCELLED", None),
        // The caller's second began before ours.
        (960, "DEADLINE_EXCEEDED", Some("DEADLINE_EXCEEDED")),
        (1_500, "DEADLINE_EXCEEDED", Some("DEADLINE_EXCEEDED")),
    ] {
        let told = given_up_after(millis).await;
        let method = Some(METHOD.trim_start_matches('/'));
        let expected = [method, Some(status), error].map(|word| word.map(str::to_owned));
        assert_eq!(
            told.both(),
            [expected.clone(), expected],
            "after {millis} ms"
        );
        let failed = told.spans()[0].status == Status::error("");
        assert_eq!(failed, error.is_some());
    }
}

#[tokio::test]
async fn a_status_in_trailers_is_told_by_span_and_metric_alike() {
    let told = Told::new(1.0);
    let handler = service_fn(async |_: Request<()>| {
        let trailers = HeaderMap::from_iter([(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from(Code::DataLoss as i32),
        )]);
        let frames = [Frame::data(Bytes::from("part")), Frame::trailers(trailers)];
        let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
        Ok::<_, Infallible>(Response::new(body))
    });
    let call = told.observe.layer(handler).call(request(METHOD));
    let response = call.await.expect("infallible");
    assert!(told.spans().is_empty(), "it goes on");
    response.collect().await.expect("infallible");
    let expected = [&METHOD[1..], "DATA_LOSS", "DATA_LOSS"].map(|word| Some(word.to_owned()));
    assert_eq!(told.both(), [expected.clone(), expected]);
}

#[tokio::test]
async fn a_served_method_that_is_unimplemented_keeps_its_name_in_span_and_metric() {
    let told = Told::new(1.0);
    let answer = async |code: Code| {
        let handler = service_fn(async |_: Request<()>| {
            let response = Response::builder().header("grpc-status", code as i32);
            Ok::<_, Infallible>(response.body(String::new()).expect("a response"))
        });
        let call = told.observe.layer(handler).call(request(METHOD));
        drop(call.await.expect("infallible"));
    };
    answer(Code::Ok).await;
    answer(Code::Unimplemented).await;
    let spans = told.spans();
    assert_eq!(spans.len(), 2);
    assert!(
        spans.iter().all(|span| span.name == METHOD[1..]),
        "{spans:?}"
    );
}
