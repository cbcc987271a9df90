//! A collector of OpenTelemetry's protocol (OTLP over gRPC) that keeps what it is given: spans and metrics.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    resource::v1::Resource,
};
pub use opentelemetry_proto::tonic::{
    metrics::v1::{Metric, metric, number_data_point},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    transport::{Server, server::TcpIncoming},
};

use crate::Port;

/// A span, and the service whose it is.
#[derive(Debug, Clone)]
pub struct Received {
    /// The `service.name` of who sent it.
    pub service: String,
    /// As it came.
    pub span: Span,
}

impl Received {
    /// What the span says by that name, as a text.
    pub fn attribute(&self, name: &str) -> Option<String> {
        text(&self.span.attributes, name)
    }
}

/// A running collector. Dropped, it is gone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> anyhow::Result<()> {
/// let collector = testkit::otlp::Collector::start().await?;
/// // For the environment of whoever is to send: OTEL_EXPORTER_OTLP_ENDPOINT.
/// assert!(collector.endpoint().starts_with("http://127.0.0.1:"));
/// assert!(collector.spans().is_empty());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Collector {
    endpoint: String,
    kept: Arc<Mutex<Kept>>,
    _serving: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Received>,
    /// Of the newest push of each service.
    metrics: Vec<(String, Vec<Metric>)>,
    /// Who has pushed metrics: the `service.name` and `service.instance.id` of each.
    pushers: BTreeSet<(String, String)>,
    /// All requests as they were on the wire.
    wire: Vec<u8>,
}

impl Collector {
    /// Starts one on a free port of this machine.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        Self::serve(listener.context("no port for a collector")?)
    }

    /// Starts one at that port.
    pub async fn start_at(port: &Port) -> Result<Self> {
        let listener = TcpListener::bind(port.address()).await;
        Self::serve(listener.with_context(|| format!("no collector at {port}"))?)
    }

    fn serve(listener: TcpListener) -> Result<Self> {
        let endpoint = format!("http://{}", listener.local_addr()?);
        let kept = Arc::default();
        let keep = Keep(Arc::clone(&kept));
        let traces = TraceServiceServer::new(keep.clone());
        let metrics = MetricsServiceServer::new(keep);
        let gzip = CompressionEncoding::Gzip;
        let server = Server::builder()
            .add_service(traces.accept_compressed(gzip))
            .add_service(metrics.accept_compressed(gzip));
        let mut serving = JoinSet::new();
        serving.spawn(async {
            let ended = server.serve_with_incoming(TcpIncoming::from(listener));
            ended.await.expect("it serves until it is dropped");
        });
        Ok(Self {
            endpoint,
            kept,
            _serving: serving,
        })
    }

    /// Its URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// All spans, in the order in which they came.
    pub fn spans(&self) -> Vec<Received> {
        locked(&self.kept).spans.clone()
    }

    /// All spans by their traces, those of each by when they began.
    pub fn traces(&self) -> Vec<Vec<Received>> {
        let mut traces: Vec<Vec<Received>> = Vec::new();
        for received in self.spans() {
            let id = &received.span.trace_id;
            match traces.iter_mut().find(|t| t[0].span.trace_id == *id) {
                Some(trace) => trace.push(received),
                None => traces.push(vec![received]),
            }
        }
        for trace in &mut traces {
            trace.sort_by_key(|received| received.span.start_time_unix_nano);
        }
        traces
    }

    /// What the service of that name has told last.
    pub fn metrics(&self, service: &str) -> Vec<Metric> {
        let kept = locked(&self.kept);
        let told = kept.metrics.iter().find(|(name, _)| name == service);
        told.map(|(_, metrics)| metrics.clone()).unwrap_or_default()
    }

    /// How many instances of the service of that name have pushed metrics, by what they call themselves.
    pub fn pushers(&self, service: &str) -> usize {
        let kept = locked(&self.kept);
        let of_it = kept.pushers.iter().filter(|(name, _)| name == service);
        of_it.count()
    }

    /// Everything that it was ever given, byte for byte.
    pub fn wire(&self) -> Vec<u8> {
        locked(&self.kept).wire.clone()
    }
}

/// A trace as lines, each span below the one that it belongs to: whose it is, what it is, what came of it, and of an attempt
/// which endpoint it went to, and why.
///
/// ```text
/// greeter-client CLIENT helloworld.Greeter/SayHello OK
///   greeter-client INTERNAL Attempt.helloworld.Greeter/SayHello OK by 127.0.0.1:50051 (round_robin)
///     greeter-server SERVER helloworld.Greeter/SayHello OK
/// ```
pub fn drawn(trace: &[Received]) -> Vec<String> {
    let mut lines = Vec::new();
    draw(trace, &[], 0, &mut lines);
    lines
}

fn draw(trace: &[Received], parent: &[u8], depth: usize, to: &mut Vec<String>) {
    let children = trace.iter().filter(|r| r.span.parent_span_id == parent);
    for received in children {
        let Received { service, span } = received;
        let said = |name: &str| received.attribute(name).unwrap_or_else(|| "?".to_owned());
        let kind = span.kind().as_str_name().trim_start_matches("SPAN_KIND_");
        let status = said("rpc.response.status_code");
        let indent = "  ".repeat(depth);
        let mut line = format!("{indent}{service} {kind} {} {status}", span.name);
        if span.kind() == SpanKind::Internal {
            let (endpoint, why) = (said("balance.endpoint"), said("balance.pick.reason"));
            write!(line, " by {endpoint} ({why})").expect("a String takes all");
        }
        to.push(line);
        draw(trace, &span.span_id, depth + 1, to);
    }
}

/// An id as logs and headers have it.
pub fn hex(id: &[u8]) -> String {
    let digits = id.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().concat()
}

fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let attribute = attributes.iter().find(|a| a.key == name)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

fn said_of(resource: Option<&Resource>, name: &str) -> String {
    let said = resource.and_then(|resource| text(&resource.attributes, name));
    said.unwrap_or_default()
}

fn locked(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone)]
struct Keep(Arc<Mutex<Kept>>);

#[tonic::async_trait]
impl TraceService for Keep {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        let mut kept = locked(&self.0);
        kept.wire.extend(request.encode_to_vec());
        for spans in request.resource_spans {
            let service = said_of(spans.resource.as_ref(), "service.name");
            let spans = spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.spans.extend(spans.map(|span| Received {
                service: service.clone(),
                span,
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Keep {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let request = request.into_inner();
        let mut kept = locked(&self.0);
        kept.wire.extend(request.encode_to_vec());
        for metrics in request.resource_metrics {
            let said = |name| said_of(metrics.resource.as_ref(), name);
            let service = said("service.name");
            let instance = said("service.instance.id");
            kept.pushers.insert((service.clone(), instance));
            let scopes = metrics.scope_metrics.into_iter();
            let metrics = scopes.flat_map(|scope| scope.metrics).collect();
            kept.metrics.retain(|(name, _)| *name != service);
            kept.metrics.push((service, metrics));
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
