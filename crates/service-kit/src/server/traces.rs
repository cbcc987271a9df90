//! Every call that is served, as a span: a layer, and what a call holds from its first to its last byte.
//!
//! While a call is worked on, what it belongs to is OpenTelemetry's current context: of log lines, and of calls that it makes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll, ready},
};

use balance::trace::{Begun, Tracing, header, of_method, of_status};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::{
    Context, ContextGuard, KeyValue,
    trace::{SpanBuilder, SpanKind, TraceContextExt},
};
use pin_project_lite::pin_project;
use registry::Address;
use tonic::Code;
use tower::{Layer, Service};

use super::{
    calls::OTHER,
    status::{is_fault, name_of, told},
};

/// Asked by every caller again and again, for ever: these belong to a trace only when their caller says so.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// In bytes; a longer path is nobody's method.
const LONGEST: usize = 256;

/// The layer. Cheap to clone.
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

    fn begin<B>(&self, request: &Request<B>) -> Served {
        let path = request.uri().path();
        let parent = header::read(request.headers());
        if !parent.is_valid() && path.starts_with(HEALTH) {
            return Served::default();
        }
        let begun = self.tracing.begin(parent, || self.span(path));
        let (context, is_span) = match begun {
            Begun::Span(span) => (Some(Context::new().with_span(span)), true),
            Begun::Passed(parent) => {
                let context = Context::new().with_remote_span_context(parent);
                (Some(context), false)
            }
            Begun::Undecided => (None, false),
        };
        Served {
            context,
            is_span,
            code: None,
        }
    }

    fn span(&self, path: &str) -> SpanBuilder {
        let method = path.trim_start_matches('/');
        let method = if method.len() > LONGEST {
            OTHER
        } else {
            method
        };
        let mut attributes = self.here.to_vec();
        attributes.extend(of_method(method.to_owned()));
        SpanBuilder::from_name(method.to_owned())
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
    }
}

/// A call being served; its span ends when this is dropped.
#[derive(Debug, Default)]
struct Served {
    context: Option<Context>,
    is_span: bool,
    code: Option<Code>,
}

impl Served {
    /// What goes on until that is dropped belongs to the call.
    fn enter(&self) -> Option<ContextGuard> {
        self.context.clone().map(Context::attach)
    }

    fn see(&mut self, headers: &HeaderMap) {
        self.code = told(headers).or(self.code);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let Some(context) = self.context.as_ref().filter(|_| self.is_span) else {
            return;
        };
        // What is dropped before it has a status was given up by its caller.
        let code = self.code.unwrap_or(Code::Cancelled);
        let span = context.span();
        if code == Code::Unimplemented {
            span.update_name(OTHER);
        }
        let (attributes, status) = of_status(name_of(code), is_fault(code));
        span.set_attributes(attributes);
        span.set_status(status);
        span.end();
    }
}

impl<S> Layer<S> for Traces {
    type Service = TraceCalls<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TraceCalls {
            inner,
            traces: self.clone(),
        }
    }
}

/// The service that the layer makes.
#[derive(Debug, Clone)]
pub(crate) struct TraceCalls<S> {
    inner: S,
    traces: Traces,
}

impl<S, I, O> Service<Request<I>> for TraceCalls<S>
where
    S: Service<Request<I>, Response = Response<O>>,
{
    type Response = Response<TracedBody<O>>;
    type Error = S::Error;
    type Future = TracedFuture<S::Future>;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let served = self.traces.begin(&request);
        let _now = served.enter();
        let response = self.inner.call(request);
        TracedFuture {
            response,
            served: Some(served),
        }
    }
}

pin_project! {
    /// A call until its response begins.
    pub(crate) struct TracedFuture<F> {
        #[pin]
        response: F,
        served: Option<Served>,
    }
}

impl<F, O, E> Future for TracedFuture<F>
where
    F: Future<Output = Result<Response<O>, E>>,
{
    type Output = Result<Response<TracedBody<O>>, E>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _now = this.served.as_ref().and_then(Served::enter);
        let response = ready!(this.response.poll(task))?;
        let mut served = this.served.take().unwrap_or_default();
        served.see(response.headers());
        Poll::Ready(Ok(response.map(|body| TracedBody { body, served })))
    }
}

/// A response's body that sees the status in the trailers.
pub(crate) struct TracedBody<B> {
    body: B,
    served: Served,
}

impl<B: Body + Unpin> Body for TracedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let _now = self.served.enter();
        let next = ready!(Pin::new(&mut self.body).poll_frame(task));
        if let Some(Ok(frame)) = &next
            && let Some(trailers) = frame.trailers_ref()
        {
            self.served.see(trailers);
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
