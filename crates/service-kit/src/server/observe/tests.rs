use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use balance::trace::{Tracing, header};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
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
use tower::{Layer, Service, service_fn};

use super::{Code, Traces};

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

/// What the handler finds to be current, and the spans of the call of `path` with that parent, which ends with `code`.
async fn served(
    share: f64,
    path: &str,
    parent: Option<TraceFlags>,
    code: Code,
) -> (SpanContext, Vec<SpanData>) {
    let ended = Ended::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(ended.clone());
    let provider = provider.build();
    let tracing = Tracing::within(|| SpanContext::NONE).with_spans(provider.tracer("test"), share);
    let address = Address::new("10.0.0.7:50051").expect("an address");
    let handler = service_fn(async |_: Request<()>| {
        let response = Response::builder().header("grpc-status", code as i32);
        let body = Full::new(Bytes::new());
        let mut response = response.body(body).expect("a response");
        response.extensions_mut().insert(current());
        Ok::<_, Infallible>(response)
    });
    let mut request = Request::post(path).body(()).expect("a request");
    if let Some(flags) = parent {
        header::write(&context(flags), request.headers_mut());
    }
    let mut service = Traces::new(tracing, &address).layer(handler);
    let response = service.call(request).await.expect("infallible");
    let (head, body) = response.into_parts();
    let seen = head.extensions.get::<SpanContext>().cloned();
    body.collect().await.expect("infallible");
    assert!(!current().is_valid(), "the call is over");
    let spans = ended.0.lock().expect("no panic holds it").clone();
    (seen.expect("the handler has put it there"), spans)
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
    let long = format!("/{}", "x".repeat(1000));
    let (_, spans) = served(1.0, &long, None, Code::Ok).await;
    assert_eq!(spans[0].name, "_OTHER");
    assert_eq!(
        attribute(&spans[0], "rpc.method").as_deref(),
        Some("_OTHER")
    );
}
