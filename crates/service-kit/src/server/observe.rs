//! Every call that is served, seen once: a layer, and what a call holds from its first to its last byte.
//!
//! How a call ended is found out here alone, and then told to [`Calls`] and [`Traces`], so that its metric and its span say the
//! same:
//!
//! ```text
//! request ──▶ headers, which may have the status ──▶ trailers, which have it otherwise ──▶ dropped: the end
//!    └───────────────────────── dropped before there was a status: given up ──────────────────▲
//! ```
//!
//! While a call is worked on, what it belongs to is OpenTelemetry's current context: of log lines, and of calls that it makes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::Code;
use tower::{Layer, Service};

use super::{
    calls::Calls,
    methods::{Called, Methods},
    status::told,
    traces::{Traced, Traces},
};

/// The layer. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Observe(Arc<Observers>);

#[derive(Debug)]
struct Observers {
    methods: Methods,
    calls: Calls,
    traces: Traces,
}

impl Observe {
    /// Has every call counted and traced by these.
    pub(super) fn new(calls: Calls, traces: Traces) -> Self {
        Self(Arc::new(Observers {
            methods: Methods::default(),
            calls,
            traces,
        }))
    }

    fn begin<B>(&self, request: &Request<B>) -> Call {
        let observers = Arc::clone(&self.0);
        observers.calls.begin();
        let started = Instant::now();
        let called = observers.methods.called(request.uri().path());
        let timeout = balance::timeout_of(request.headers());
        Call {
            traced: observers.traces.begin(request, called.name()),
            observers,
            called,
            started,
            given_up_from: timeout.and_then(|timeout| started.checked_add(less_the_way(timeout))),
            code: None,
        }
    }
}

/// What is left of a timeout here at least: the caller's time began earlier, by the request's way, and it gives up by its own.
fn less_the_way(timeout: Duration) -> Duration {
    let way = (timeout / 10).min(Duration::from_millis(50));
    timeout.saturating_sub(way)
}

/// A call being served, which ends when this is dropped.
#[derive(Debug)]
struct Call {
    observers: Arc<Observers>,
    called: Called,
    traced: Traced,
    started: Instant,
    /// From when on it is its deadline that it is given up for, if its caller has told one.
    given_up_from: Option<Instant>,
    /// Its status, once it is known.
    code: Option<Code>,
}

impl Call {
    fn see(&mut self, headers: &HeaderMap) {
        self.code = told(headers).or(self.code);
    }

    /// What is dropped before it has a status was given up: by its deadline, or by its caller.
    fn code(&self, now: Instant) -> Code {
        self.code.unwrap_or_else(|| {
            if self.given_up_from.is_some_and(|from| from <= now) {
                Code::DeadlineExceeded
            } else {
                Code::Cancelled
            }
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Observers { methods, calls, .. } = &*self.observers;
        let now = Instant::now();
        let code = self.code(now);
        let method = methods.ended(&self.called, code);
        self.traced.end(self.called.name(), &method, code);
        // Last, for then nothing is left to be told of it.
        calls.end(now.duration_since(self.started), method.with(code));
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observed {
            inner,
            observe: self.clone(),
        }
    }
}

/// The service that the layer makes.
#[derive(Debug, Clone)]
pub(super) struct Observed<S> {
    inner: S,
    observe: Observe,
}

impl<S, I, O> Service<Request<I>> for Observed<S>
where
    S: Service<Request<I>, Response = Response<O>>,
{
    type Response = Response<ObservedBody<O>>;
    type Error = S::Error;
    type Future = ObservedFuture<S::Future>;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let call = self.observe.begin(&request);
        let _now = call.traced.enter();
        ObservedFuture {
            response: self.inner.call(request),
            call: Some(call),
        }
    }
}

pin_project! {
    /// A call until its response begins.
    pub(super) struct ObservedFuture<F> {
        #[pin]
        response: F,
        // Until the response has it.
        call: Option<Call>,
    }
}

impl<F, O, E> Future for ObservedFuture<F>
where
    F: Future<Output = Result<Response<O>, E>>,
{
    type Output = Result<Response<ObservedBody<O>>, E>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _now = this.call.as_ref().and_then(|call| call.traced.enter());
        let response = ready!(this.response.poll(task))?;
        let mut call = this.call.take().expect("a future gives one response");
        call.see(response.headers());
        Poll::Ready(Ok(response.map(|body| ObservedBody { body, call })))
    }
}

/// A response's body that sees the status in the trailers.
pub(super) struct ObservedBody<B> {
    body: B,
    call: Call,
}

impl<B: Body + Unpin> Body for ObservedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let _now = self.call.traced.enter();
        let next = ready!(Pin::new(&mut self.body).poll_frame(task));
        if let Some(Ok(frame)) = &next
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.see(trailers);
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
