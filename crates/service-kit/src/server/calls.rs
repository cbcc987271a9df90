//! Every call that is served, counted: a layer, and the guard that a call holds from its first to its last byte.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter},
};
use tokio::{sync::Notify, time::Instant};
use tonic::Code;
use tower::{Layer, Service};

use super::status::settle;

/// Seconds: from what a call in memory takes to what nobody waits for.
const BUCKETS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// A method that is not served could be called by any name, and each name would be a series of its own.
pub(super) const OTHER: &str = "_OTHER";

/// The layer, and what it has counted. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Arc<Instruments>);

#[derive(Debug)]
struct Instruments {
    duration: Histogram<f64>,
    in_flight: Arc<AtomicU64>,
    idle: Notify,
}

impl Calls {
    pub(crate) fn new(meter: &Meter) -> Self {
        let in_flight = Arc::new(AtomicU64::new(0));
        let observed = Arc::clone(&in_flight);
        meter
            .u64_observable_gauge("rpc.server.calls.active")
            .with_description("Calls that are being served")
            .with_callback(move |gauge| gauge.observe(observed.load(Ordering::Relaxed), &[]))
            .build();
        let duration = meter
            .f64_histogram("rpc.server.call.duration")
            .with_unit("s")
            .with_description("Calls served, by method and status, and how long they took")
            .with_boundaries(BUCKETS.to_vec())
            .build();
        Self(Arc::new(Instruments {
            duration,
            in_flight,
            idle: Notify::new(),
        }))
    }

    /// How many calls are being served.
    pub(crate) fn in_flight(&self) -> u64 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Waits until no call is being served. Cancellation safe.
    pub(crate) async fn idle(&self) {
        let mut idle = pin!(self.0.idle.notified());
        // Enabled first: a call that ends after the look is not missed.
        idle.as_mut().enable();
        if self.in_flight() > 0 {
            idle.await;
        }
    }

    fn begin(&self, path: &str) -> Call {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        Call {
            instruments: Arc::clone(&self.0),
            method: path.trim_start_matches('/').to_owned(),
            started: Instant::now(),
            // What is dropped before it has a status was given up by its caller.
            code: Code::Cancelled,
        }
    }
}

/// A call being served; counted when it is dropped.
struct Call {
    instruments: Arc<Instruments>,
    method: String,
    started: Instant,
    code: Code,
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.instruments.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.instruments.idle.notify_waiters();
        }
        let method = match self.code {
            Code::Unimplemented => OTHER.to_owned(),
            _ => std::mem::take(&mut self.method),
        };
        self.instruments.duration.record(
            self.started.elapsed().as_secs_f64(),
            &[
                KeyValue::new("rpc.method", method),
                KeyValue::new("rpc.response.status_code", name_of(self.code)),
            ],
        );
    }
}

impl<S> Layer<S> for Calls {
    type Service = CountCalls<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountCalls {
            inner,
            calls: self.clone(),
        }
    }
}

/// The service that the layer makes.
#[derive(Debug, Clone)]
pub(crate) struct CountCalls<S> {
    inner: S,
    calls: Calls,
}

impl<S, I, O> Service<Request<I>> for CountCalls<S>
where
    S: Service<Request<I>, Response = Response<O>>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<CountedBody<O>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let mut call = self.calls.begin(request.uri().path());
        let response = self.inner.call(request);
        async move {
            let (mut head, body) = response.await?.into_parts();
            if let Some(code) = settle(&mut head.headers) {
                call.code = code;
            }
            Ok(Response::from_parts(head, CountedBody { body, call }))
        }
        .boxed()
    }
}

/// A response's body that sees the status in the trailers.
pub(crate) struct CountedBody<B> {
    body: B,
    call: Call,
}

impl<B: Body + Unpin> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut next = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &mut next
            && let Some(code) = frame.trailers_mut().and_then(settle)
        {
            self.call.code = code;
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

/// The name of a status code as gRPC writes it.
pub(super) fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
