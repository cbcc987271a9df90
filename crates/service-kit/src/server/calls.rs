//! Every call that is served, counted: a layer, and the guard that a call holds from its first to its last byte.

mod methods;

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::metrics::{Histogram, Meter};
use pin_project_lite::pin_project;
use tokio::{sync::Notify, time::Instant};
use tonic::Code;
use tower::{Layer, Service};

use super::status::settle;
pub(super) use methods::OTHER;
use methods::{Called, Methods};

/// Seconds: those that OpenTelemetry's RPC conventions advise, from 5 ms on, and before them what a call in memory takes.
const BUCKETS: [f64; 18] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0,
    2.5, 5.0, 7.5, 10.0,
];

/// The layer, and what it has counted. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    duration: Histogram<f64>,
    methods: Methods,
    in_flight: Arc<AtomicU64>,
    idle: Notify,
}

impl Calls {
    pub(crate) fn new(meter: &Meter) -> Self {
        let in_flight = Arc::new(AtomicU64::new(0));
        let observed = Arc::clone(&in_flight);
        meter
            .u64_observable_gauge("rpc.server.calls.active")
            .with_unit("{call}")
            .with_description("Calls that are being served")
            .with_callback(move |gauge| gauge.observe(observed.load(Ordering::Relaxed), &[]))
            .build();
        let duration = meter
            .f64_histogram("rpc.server.call.duration")
            .with_unit("s")
            .with_description("Calls served, by method and status, and how long they took")
            .with_boundaries(BUCKETS.to_vec())
            .build();
        Self(Arc::new(Counted {
            duration,
            methods: Methods::default(),
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

    fn begin<B>(&self, request: &Request<B>) -> Call {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        Call {
            called: self.0.methods.called(request.uri().path()),
            counted: Arc::clone(&self.0),
            started,
            given_up_from: balance::timeout_of(request.headers())
                .and_then(|timeout| started.checked_add(less_the_way(timeout))),
            code: None,
        }
    }
}

/// A call being served; counted when it is dropped.
#[derive(Debug)]
struct Call {
    counted: Arc<Counted>,
    called: Called,
    started: Instant,
    /// From when on it is its deadline that it is given up for, if its caller has told one.
    given_up_from: Option<Instant>,
    /// Its status, once it is known.
    code: Option<Code>,
}

impl Call {
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

/// What is left of a timeout here at least: the caller's time began earlier, by the request's way, and it gives up by its own.
fn less_the_way(timeout: Duration) -> Duration {
    let way = (timeout / 10).min(Duration::from_millis(50));
    timeout.saturating_sub(way)
}

impl Drop for Call {
    fn drop(&mut self) {
        let counted = &self.counted;
        let now = Instant::now();
        let code = self.code(now);
        let method = counted.methods.ended(&self.called, code);
        let took = now.duration_since(self.started).as_secs_f64();
        counted.duration.record(took, method.with(code));
        if counted.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            counted.idle.notify_waiters();
        }
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
{
    type Response = Response<CountedBody<O>>;
    type Error = S::Error;
    type Future = CountedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let call = Some(self.calls.begin(&request));
        CountedFuture {
            inner: self.inner.call(request),
            call,
        }
    }
}

pin_project! {
    /// A response to come.
    pub(crate) struct CountedFuture<F> {
        #[pin]
        inner: F,
        // Until the response has it.
        call: Option<Call>,
    }
}

impl<F, O, E> Future for CountedFuture<F>
where
    F: Future<Output = Result<Response<O>, E>>,
{
    type Output = Result<Response<CountedBody<O>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut head, body) = ready!(this.inner.poll(context))?.into_parts();
        let mut call = this.call.take().expect("a future gives one response");
        call.code = settle(&mut head.headers);
        Poll::Ready(Ok(Response::from_parts(head, CountedBody { body, call })))
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
            self.call.code = Some(code);
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
mod tests {
    use std::time::Duration;

    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry_sdk::metrics::SdkMeterProvider;

    use super::{Calls, Code, Request};

    #[test]
    fn a_call_that_is_given_up_ended_at_its_deadline_or_by_its_caller() {
        let calls = Calls::new(&SdkMeterProvider::default().meter("test"));
        let request = Request::get("/a/A").header("grpc-timeout", "1S");
        let call = calls.begin(&request.body(()).expect("a request"));
        let code_after = |millis| call.code(call.started + Duration::from_millis(millis));
        assert_eq!(code_after(900), Code::Cancelled);
        // The caller's second began before ours.
        assert_eq!(code_after(960), Code::DeadlineExceeded);
        assert_eq!(code_after(1_500), Code::DeadlineExceeded);
        let patient = calls.begin(&Request::get("/a/A").body(()).expect("a request"));
        let late = patient.started + Duration::from_hours(1);
        assert_eq!(patient.code(late), Code::Cancelled);
    }
}
