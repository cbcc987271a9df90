//! Traces as a collector is given them: through the processes that a call goes through, and none of their calls waits for it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use proto::helloworld::{
    HelloReply, HelloRequest,
    greeter_server::{Greeter, GreeterServer},
};
use tempfile::TempDir;
use testkit::{Port, eventually, fleet::Fleet, http};
use tokio::net::TcpListener;
use tokio_stream::{Pending, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, service::Routes, transport::Server};

const BOUND: Duration = Duration::from_mins(1);

/// Serves those on a free port of this machine for as long as the test runs, and gives its address.
async fn serve(routes: Routes) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let server = Server::builder().add_routes(routes);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// A span, and the service whose it is.
#[derive(Debug, Clone)]
struct Received {
    service: String,
    span: Span,
}

/// A collector that keeps what it is given.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<Received>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            let resource = spans.resource.unwrap_or_default();
            let service = text(&resource.attributes, "service.name");
            let spans = spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let received = spans.map(|span| Received {
                service: service.clone(),
                span,
            });
            self.kept().extend(received);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Received>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All spans of one trace, by when they began, as soon as one has that many.
    fn trace_of(&self, spans: usize) -> Option<Vec<Received>> {
        let kept = self.kept().clone();
        let of = |id: &[u8]| {
            let same = kept.iter().filter(|r| r.span.trace_id == id);
            let mut same: Vec<_> = same.cloned().collect();
            same.sort_by_key(|received| received.span.start_time_unix_nano);
            same
        };
        let mut traces = kept.iter().map(|received| of(&received.span.trace_id));
        traces.find(|trace| trace.len() == spans)
    }
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let attribute = attributes.iter().find(|a| a.key == name);
    match attribute.and_then(|a| a.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{name} is {other:?} in {attributes:?}"),
    }
}

/// A greeter that cannot.
#[derive(Debug)]
struct Unable;

#[tonic::async_trait]
impl Greeter for Unable {
    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Err(Status::unavailable("not now"))
    }

    type SayHelloStreamReplyStream = Pending<Result<HelloReply, Status>>;

    async fn say_hello_stream_reply(
        &self,
        _: Request<HelloRequest>,
    ) -> Result<Response<Self::SayHelloStreamReplyStream>, Status> {
        Err(Status::unavailable("not now"))
    }

    type SayHelloBidiStreamStream = Pending<Result<HelloReply, Status>>;

    async fn say_hello_bidi_stream(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Self::SayHelloBidiStreamStream>, Status> {
        Err(Status::unavailable("not now"))
    }
}

/// A fleet that sends the spans of all calls to the collector there.
fn fleet(collector: &str) -> (Fleet, TempDir) {
    let directory = TempDir::new().expect("a directory");
    let registry = format!("file://{}/registry", directory.path().display());
    let mut fleet = Fleet::new(registry).expect("the binaries are built");
    let endpoint = format!("http://{collector}");
    fleet.set_env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    // In milliseconds.
    fleet.set_env("OTEL_BSP_SCHEDULE_DELAY", "100");
    fleet.set_env("DISCOVERY__TRACE__SAMPLE_RATIO", "1");
    (fleet, directory)
}

/// The spans below `parent` as lines: whose each is, what it is, and what came of it.
fn drawn(trace: &[Received], parent: &[u8], depth: usize, to: &mut Vec<String>) {
    let children = trace.iter().filter(|r| r.span.parent_span_id == parent);
    for Received { service, span } in children {
        let kind = span.kind().as_str_name().trim_start_matches("SPAN_KIND_");
        let status = text(&span.attributes, "rpc.response.status_code");
        let mut line = format!(
            "{}{service} {kind} {} {status}",
            "  ".repeat(depth),
            span.name
        );
        if span.kind() == SpanKind::Internal {
            line = format!("{line} by {}", text(&span.attributes, "balance.endpoint"));
        }
        to.push(line);
        drawn(trace, &span.span_id, depth + 1, to);
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn one_trace_goes_from_the_caller_to_the_greeter_that_answered_with_its_retry() {
    let collector = Collector::default();
    let receives = TraceServiceServer::new(collector.clone());
    let (mut fleet, _directory) = fleet(&serve(Routes::new(receives)).await);
    fleet.set_env("DISCOVERY__LOG__LEVEL", "info,tower_http=debug");
    let able = fleet.add().await.expect("a greeter");
    let unable = serve(Routes::new(GreeterServer::new(Unable))).await;

    // In turns: every other call goes to who cannot, and then to who can.
    let target = format!("static:///{unable},{able}");
    let client = fleet
        .client(&["--target", &target, "--forever", "--interval", "20ms"])
        .expect("a client");
    let retried = || collector.trace_of(4);
    eventually(BOUND, "a call with a retry", async || retried().is_some()).await;
    client.interrupt().expect("it runs");
    let (status, _) = client.end(BOUND).await.expect("it ends");
    assert!(status.success());

    let trace = retried().expect("it was there");
    let mut lines = Vec::new();
    drawn(&trace, &[], 0, &mut lines);
    let method = "helloworld.Greeter/SayHello";
    assert_eq!(
        lines,
        [
            format!("greeter-client CLIENT {method} OK"),
            format!("  greeter-client INTERNAL Attempt.{method} UNAVAILABLE by {unable}"),
            format!("  greeter-client INTERNAL Attempt.{method} OK by {able}"),
            format!("    greeter-server SERVER {method} OK"),
        ],
        "{trace:#?}"
    );
    let served = &trace[3].span;
    let here = [("server.address", "127.0.0.1"), ("rpc.method", method)];
    for (name, value) in here {
        assert_eq!(text(&served.attributes, name), value);
    }
    // What the greeter has logged of the call tells to which trace it belongs.
    let (trace, span) = (hex(&served.trace_id), hex(&served.span_id));
    let ids = format!("trace_id={trace} span_id={span}");
    let greeter = fleet.servers()[0].process();
    let line = greeter.wait_for_line(&ids, BOUND).await.expect("a line");
    assert!(line.contains("processing request"), "{line}");
}

#[tokio::test]
async fn what_is_left_is_handed_over_at_the_end() {
    let collector = Collector::default();
    let receives = TraceServiceServer::new(collector.clone());
    let (mut fleet, _directory) = fleet(&serve(Routes::new(receives)).await);
    // Later than anything here takes.
    fleet.set_env("OTEL_BSP_SCHEDULE_DELAY", "600000");
    let address = fleet.add().await.expect("a greeter");
    let client = fleet
        .client(&["--count", "10", "--output", "json"])
        .expect("a client");
    let figures = client.figures(BOUND).await.expect("figures");
    assert_eq!((figures.calls, figures.failures), (10, 0));
    let of = |service: &str| {
        let kept = collector.kept();
        kept.iter().filter(|r| r.service == service).count()
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
        let (mut fleet, _directory) = fleet(&collector);
        fleet.set_env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000");
        let admin = Port::free().expect("a port");
        fleet.set_env("DISCOVERY__ADMIN__LISTEN", &admin.address());
        let address = fleet.add().await.expect("a greeter");
        fleet.set_env("DISCOVERY__ADMIN__LISTEN", "off");
        let client = fleet
            .client(&["--count", "500", "--output", "json"])
            .expect("a client");
        let figures = client.figures(BOUND).await.expect("figures");
        assert_eq!((figures.calls, figures.failures), (500, 0), "{collector}");
        assert!(figures.latency_us["p99"] < 500_000, "{figures:?}");

        let lost = r#"outcome="failed""#;
        let counted = async || {
            let metrics = http::text(admin.number(), "/metrics").await;
            let metrics = metrics.unwrap_or_default();
            let line = metrics
                .lines()
                .find(|line| line.starts_with("telemetry_spans_total{") && line.contains(lost));
            let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
            count.unwrap_or(0_u64)
        };
        eventually(BOUND, "spans that are lost", async || counted().await > 0).await;
        let greeter = fleet.servers()[0].process();
        let warned = "the collector takes no spans";
        greeter.wait_for_line(warned, BOUND).await.expect("a word");
        let lines = greeter.output();
        let said = lines.iter().filter(|line| line.text.contains(warned));
        assert_eq!(said.count(), 1, "it is said once");
        // It ends in time, whatever the collector does.
        fleet.stop(&address).await.expect("it ends well");
    }
}
