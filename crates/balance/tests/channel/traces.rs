//! What spans a channel makes of its calls, and what their servers are told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use balance::{
    Channel,
    trace::{Tracing, header},
};
use opentelemetry::{
    SpanId, TraceId, Value,
    trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState, TracerProvider},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tonic::{Code, metadata::MetadataMap};

use crate::{bound, client, hello, server::Server, until, until_ready};

const METHOD: &str = "helloworld.Greeter/SayHello";
const RETRIES: &str = r#"{"methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 4, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1,
    "retryableStatusCodes": ["UNAVAILABLE"]}}]}"#;

/// Keeps all spans that end.
#[derive(Debug, Clone, Default)]
struct Ended(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Ended {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no panic holds it").extend(batch);
        Ok(())
    }
}

struct Traces {
    ended: Ended,
    provider: SdkTracerProvider,
}

impl Traces {
    fn new() -> Self {
        let ended = Ended::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(ended.clone());
        Self {
            ended,
            provider: provider.build(),
        }
    }

    /// Traces this share of the calls that belong to nothing.
    fn tracing(&self, share: f64, current: SpanContext) -> Tracing {
        let tracer = self.provider.tracer("balance");
        Tracing::within(move || current.clone()).with_spans(tracer, share)
    }

    fn channel(&self, server: &Server, share: f64) -> Channel {
        channel(server, &self.tracing(share, SpanContext::NONE))
    }

    /// The spans that have ended, in the order of their ends.
    fn ended(&self) -> Vec<SpanData> {
        self.ended.0.lock().expect("no panic holds it").clone()
    }
}

fn channel(server: &Server, tracing: &Tracing) -> Channel {
    let builder = Channel::builder(format!("static:///{}", server.address));
    let builder = builder.service_config(RETRIES).tracing(tracing);
    builder.build().expect("a channel")
}

fn attributes(span: &SpanData) -> BTreeMap<&str, &Value> {
    let attributes = span.attributes.iter();
    attributes.map(|a| (a.key.as_str(), &a.value)).collect()
}

fn text(span: &SpanData, name: &str) -> String {
    let attributes = attributes(span);
    let value = attributes.get(name);
    let value = value.unwrap_or_else(|| panic!("{name} is not in {attributes:?}"));
    value.to_string()
}

/// What a server is told of the trace by its last call.
fn told(server: &Server) -> SpanContext {
    let metadata = server.seen.metadata.lock().expect("no panic holds it");
    header::read(&metadata.clone().into_headers())
}

fn context(flags: TraceFlags) -> SpanContext {
    let state = TraceState::from_key_value([("a", "1")]).expect("a state");
    SpanContext::new(TraceId::from(7), SpanId::from(8), flags, true, state)
}

#[tokio::test]
async fn what_is_logged_of_a_call_is_told_as_a_part_of_it_also_when_it_is_not_sampled() {
    for share in [1.0, 0.0] {
        let (server, traces) = (Server::start().await, Traces::new());
        let entered = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&entered);
        let tracing = traces.tracing(share, SpanContext::NONE);
        let tracing = tracing.entered_by(move |span, log| {
            kept.lock().expect("no panic holds it").push(span.clone());
            log();
        });
        let channel = channel(&server, &tracing);
        let reply = client(&channel).say_hello(hello("third time")).await;
        drop(reply.expect("the third attempt is answered"));
        // The span of the call is the last to end; without one there is what the server is told.
        let call = traces.ended().pop();
        let call = call.map_or_else(|| told(&server).span_id(), |s| s.span_context.span_id());
        let entered = entered.lock().expect("no panic holds it").clone();
        let entered: Vec<_> = entered.iter().map(SpanContext::span_id).collect();
        // Of each attempt that was followed by another.
        assert_eq!(entered, [call, call]);
    }
}

#[tokio::test]
async fn a_call_that_is_tried_three_times_is_a_span_with_three_children() {
    let (server, traces) = (Server::start().await, Traces::new());
    let channel = traces.channel(&server, 1.0);
    let reply = client(&channel).say_hello(hello("third time")).await;
    drop(reply.expect("the third attempt is answered"));

    let spans = traces.ended();
    let [first, second, third, call] = spans.as_slice() else {
        panic!("{spans:?}");
    };
    assert_eq!(call.name, METHOD);
    assert_eq!(call.span_kind, SpanKind::Client);
    assert_eq!(call.parent_span_id, SpanId::INVALID);
    assert_eq!(call.status, Status::Unset);
    assert_eq!(text(call, "rpc.system.name"), "grpc");
    assert_eq!(text(call, "rpc.method"), METHOD);
    assert_eq!(text(call, "rpc.response.status_code"), "OK");
    let target = format!("static:///{}", server.address);
    assert_eq!(text(call, "server.address"), target);
    let outcomes = [
        (first, "1", "UNAVAILABLE", "round_robin"),
        (second, "2", "UNAVAILABLE", "nothing_better"),
        (third, "3", "OK", "nothing_better"),
    ];
    for (attempt, number, outcome, reason) in outcomes {
        assert_eq!(attempt.name, format!("Attempt.{METHOD}"));
        assert_eq!(attempt.span_kind, SpanKind::Internal);
        assert_eq!(attempt.parent_span_id, call.span_context.span_id());
        assert_eq!(
            attempt.span_context.trace_id(),
            call.span_context.trace_id()
        );
        assert_eq!(text(attempt, "balance.attempt"), number);
        assert_eq!(text(attempt, "balance.pick.reason"), reason);
        let endpoint = server.address.as_str();
        assert_eq!(text(attempt, "balance.endpoint"), endpoint);
        assert_eq!(text(attempt, "server.address"), "127.0.0.1");
        assert_eq!(text(attempt, "rpc.response.status_code"), outcome);
        let failed = outcome != "OK";
        assert_eq!(attempt.status == Status::error(""), failed);
        assert_eq!(attributes(attempt).contains_key("error.type"), failed);
    }
    let told = told(&server);
    assert_eq!(told.span_id(), third.span_context.span_id());
    assert!(told.is_sampled());
}

#[tokio::test]
async fn a_call_that_is_not_sampled_makes_no_span_and_its_server_knows_it() {
    let (server, traces) = (Server::start().await, Traces::new());
    let channel = traces.channel(&server, 0.0);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let reply = client(&channel).say_hello(hello("a")).await;
        reply.expect("an answer");
        let told = told(&server);
        assert!(told.is_valid() && !told.is_sampled(), "{told:?}");
        seen.push(told.trace_id());
    }
    assert_ne!(seen[0], seen[1], "each call has ids of its own");
    assert!(traces.ended().is_empty());
}

#[tokio::test]
async fn about_so_many_calls_are_sampled_as_are_to_be() {
    let (server, traces) = (Server::start().await, Traces::new());
    let channel = traces.channel(&server, 0.5);
    for _ in 0..200 {
        let reply = client(&channel).say_hello(hello("a")).await;
        drop(reply.expect("an answer"));
    }
    let calls = traces.ended().len() / 2;
    // Twelve standard deviations of it: of all machines that run this, none sees less or more.
    assert!((20..=180).contains(&calls), "{calls}");
}

#[tokio::test]
async fn a_call_is_the_child_of_what_its_process_is_doing_and_does_as_that_does() {
    let (server, traces) = (Server::start().await, Traces::new());
    for (flags, spans) in [(TraceFlags::SAMPLED, 2), (TraceFlags::NOT_SAMPLED, 0)] {
        let parent = context(flags);
        let share = if spans == 0 { 1.0 } else { 0.0 };
        let channel = channel(&server, &traces.tracing(share, parent.clone()));
        let before = traces.ended().len();
        // Whatever the request says itself.
        let mut request = hello("a");
        let stranger = "00-00000000000000000000000000000001-0000000000000001-01";
        let metadata = request.metadata_mut();
        metadata.insert("traceparent", stranger.parse().expect("a value"));
        let reply = client(&channel).say_hello(request).await;
        drop(reply.expect("an answer"));
        let told = told(&server);
        assert_eq!(told.trace_id(), parent.trace_id());
        assert_eq!(told.trace_state(), parent.trace_state());
        assert_eq!(told.is_sampled(), flags.is_sampled());
        let ended = traces.ended();
        assert_eq!(ended.len() - before, spans);
        if let Some(call) = ended[before..].last() {
            assert_eq!(call.parent_span_id, parent.span_id());
            assert_eq!(call.span_kind, SpanKind::Client);
        } else {
            assert_eq!(told.span_id(), parent.span_id());
        }
    }
}

#[tokio::test]
async fn a_request_may_say_itself_what_it_belongs_to() {
    let (server, traces) = (Server::start().await, Traces::new());
    let channel = traces.channel(&server, 0.0);
    let mut request = hello("a");
    let mut headers = http::HeaderMap::new();
    header::write(&context(TraceFlags::SAMPLED), &mut headers);
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    let reply = client(&channel).say_hello(request).await;
    drop(reply.expect("an answer"));
    let ended = traces.ended();
    assert_eq!(ended.len(), 2);
    assert_eq!(ended[1].parent_span_id, SpanId::from(8));
    let told = told(&server);
    assert_eq!(told.trace_id(), TraceId::from(7));
    assert_eq!(told.span_id(), ended[0].span_context.span_id());
}

#[tokio::test]
async fn who_makes_no_spans_passes_on_what_a_call_belongs_to() {
    let server = Server::start().await;
    let parent = context(TraceFlags::SAMPLED);
    let known = parent.clone();
    let passing = channel(&server, &Tracing::within(move || known.clone()));
    let reply = client(&passing).say_hello(hello("a")).await;
    reply.expect("an answer");
    let told_of = told(&server);
    assert_eq!(told_of.span_id(), parent.span_id());
    assert_eq!(told_of.trace_state(), parent.trace_state());

    let nothing = channel(&server, &Tracing::within(|| SpanContext::NONE));
    let reply = client(&nothing).say_hello(hello("a")).await;
    reply.expect("an answer");
    assert!(!told(&server).is_valid(), "nobody has decided anything");
}

#[tokio::test]
async fn a_call_that_its_caller_gives_up_or_its_deadline_ends_says_so() {
    let (server, traces) = (Server::start().await, Traces::new());
    let channel = traces.channel(&server, 1.0);
    until_ready(&channel, 1).await;
    let mut request = hello("forever");
    request.set_timeout(Duration::from_millis(50));
    let late = client(&channel).say_hello(request).await;
    assert_eq!(late.expect_err("late").code(), Code::DeadlineExceeded);

    let mut greeter = client(&channel);
    let call = tokio::spawn(async move { greeter.say_hello(hello("forever")).await });
    let under_way = || channel.explain().endpoints[0].in_flight == 1;
    until("the second call is under way", under_way).await;
    call.abort();
    let four = || traces.ended().len() == 4;
    until("both calls have ended", four).await;
    let spans = traces.ended();
    let outcomes = spans.iter().map(|s| text(s, "rpc.response.status_code"));
    let outcomes: Vec<_> = outcomes.collect();
    assert_eq!(outcomes[..2], ["DEADLINE_EXCEEDED"; 2]);
    assert_eq!(outcomes[2..], ["CANCELLED"; 2]);
}

#[tokio::test]
async fn a_call_that_is_bound_to_an_endpoint_says_so() {
    let (server, traces) = (Server::start().await, Traces::new());
    let channel = traces.channel(&server, 1.0);
    until_ready(&channel, 1).await;
    let reply = client(&channel)
        .say_hello(bound("a", &server.address))
        .await;
    drop(reply.expect("an answer"));
    let attempt = &traces.ended()[0];
    assert_eq!(text(attempt, "balance.pick.reason"), "affinity");
}

#[tokio::test]
async fn the_span_of_a_stream_ends_when_the_stream_does() {
    let (server, traces) = (Server::start().await, Traces::new());
    let channel = traces.channel(&server, 1.0);
    let replies = client(&channel).say_hello_stream_reply(hello("a")).await;
    let mut replies = replies.expect("a stream").into_inner();
    while let Some(reply) = {
        assert!(traces.ended().is_empty());
        replies.message().await.expect("no error")
    } {
        drop(reply);
    }
    assert_eq!(traces.ended().len(), 2);
}
