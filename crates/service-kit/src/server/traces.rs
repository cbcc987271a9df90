//! Calls that are served as they are traced: whether each has a span, and what that says.

use std::sync::Arc;

use balance::trace::{Begun, Tracing, header, unsampled};
use http::Request;
use opentelemetry::{
    Context, ContextGuard, KeyValue,
    trace::{SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt},
};
use registry::Address;
use tonic::Code;

use super::{methods::Method, status::is_fault};

/// Asked by every caller again and again, for ever: these belong to a trace only when their caller says so.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// How calls are traced. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    tracing: Tracing,
    /// Where it is served.
    here: Arc<[KeyValue]>,
}

impl Traces {
    /// Traces calls that callers make at `address`.
    pub(crate) fn new(tracing: Tracing, address: &Address) -> Self {
        let host = address.host().unwrap_or(address.as_str()).to_owned();
        let port = address.port().map(i64::from);
        let port = port.map(|port| KeyValue::new("server.port", port));
        let here = [KeyValue::new("server.address", host)].into_iter();
        Self {
            tracing,
            here: here.chain(port).collect(),
        }
    }

    /// A call begins, of the method of that name.
    pub(super) fn begin<B>(&self, request: &Request<B>, name: &str) -> Traced {
        let parent = header::read(request.headers());
        if !parent.is_valid() && request.uri().path().starts_with(HEALTH) {
            return Traced::default();
        }
        let begun = self.tracing.begin(parent, || {
            SpanBuilder::from_name(name.to_owned())
                .with_kind(SpanKind::Server)
                .with_attributes(self.here.iter().cloned())
        });
        match begun {
            Begun::Span(span) => Traced {
                context: Some(Context::new().with_span(span)),
                is_span: true,
            },
            Begun::Passed(parent) => Traced::of(parent),
            // Nobody has a collector so far: it has ids all the same, by which its lines are found here and where it goes on.
            Begun::Undecided => Traced::of(unsampled()),
        }
    }
}

/// A call being served: what is done for it belongs to this.
#[derive(Debug, Default)]
pub(super) struct Traced {
    context: Option<Context>,
    /// Whether it has a span of its own.
    is_span: bool,
}

impl Traced {
    /// It has no span, and belongs to that.
    fn of(parent: SpanContext) -> Self {
        Self {
            context: Some(Context::new().with_remote_span_context(parent)),
            is_span: false,
        }
    }

    /// What goes on until that is dropped belongs to the call.
    pub(super) fn enter(&self) -> Option<ContextGuard> {
        self.context.clone().map(Context::attach)
    }

    /// It has ended so, and was a call of that method, where its caller said `called`.
    pub(super) fn end(&self, called: &str, method: &Method, code: Code) {
        let Some(context) = self.context.as_ref().filter(|_| self.is_span) else {
            return;
        };
        let span = context.span();
        if called != method.name() {
            span.update_name(method.name().to_owned());
            let called = called.to_owned();
            span.set_attribute(KeyValue::new("rpc.method_original", called));
        }
        span.set_attributes(method.with(code).attributes.iter().cloned());
        if is_fault(code) {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}
