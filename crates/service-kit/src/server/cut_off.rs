//! Ends the calls that are still there when their time is over, as their own deadline is, the instance stops or their connection has
//! reached its age: each is told so by its status, and its connection is not broken.
//!
//! A call that has not begun to answer gets a response of trailers alone, one that is in the middle of its messages gets
//! trailers next. What its handler was doing is dropped. A call that never waits costs a look at a flag.
//!
//! tonic looks after deadlines as well, until a response begins, and calls what it ends `CANCELLED`. It begins to count later and asks
//! here first.

use std::{
    pin::Pin,
    task::{Context as Task, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    sync::futures::OwnedNotified,
    time::{Instant, Sleep, sleep_until},
};
use tonic::Status;
use tower::{Layer, Service};

use super::{connection::OfConnection, notice::Notice};

/// The layer. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct CutOff(Notice);

impl CutOff {
    /// Ends all calls when this is given, those of a connection when its own is, and each by its deadline.
    pub(super) fn new(to_all: Notice) -> Self {
        Self(to_all)
    }
}

impl<S> Layer<S> for CutOff {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Limited {
            inner,
            to_all: self.0.clone(),
        }
    }
}

/// The service that the layer makes.
#[derive(Debug, Clone)]
pub(super) struct Limited<S> {
    inner: S,
    to_all: Notice,
}

impl<S, I, O> Service<Request<I>> for Limited<S>
where
    S: Service<Request<I>, Response = Response<O>>,
{
    type Response = Response<LimitedBody<O>>;
    type Error = S::Error;
    type Future = LimitedFuture<S::Future>;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let of_connection = request.extensions().get::<OfConnection>();
        let end = End {
            to_all: self.to_all.clone(),
            to_connection: of_connection.map(|of| of.over.clone()).unwrap_or_default(),
            deadline: balance::timeout_of(request.headers()).and_then(Deadline::after),
            heard: None,
        };
        LimitedFuture {
            response: self.inner.call(request),
            end: Some(end),
        }
    }
}

/// A call's view of its end.
struct End {
    to_all: Notice,
    to_connection: Notice,
    /// If its caller has told one.
    deadline: Option<Deadline>,
    /// Made when the call waits for the first time.
    heard: Option<Pin<Box<Heard>>>,
}

/// When the caller waits no more.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    timeout: Duration,
    until: Instant,
}

impl Deadline {
    /// So long from now. Longer than a clock can tell is for ever.
    fn after(timeout: Duration) -> Option<Self> {
        let until = Instant::now().checked_add(timeout)?;
        Some(Self { timeout, until })
    }

    /// What the call ends with, once it is over. By the clock and not by the timer: of two timers of one moment, tonic's may be the
    /// first.
    fn status(&self) -> Option<Status> {
        let is_over = Instant::now() >= self.until;
        is_over.then(|| {
            let timeout = self.timeout;
            Status::deadline_exceeded(format!(
                "the deadline is over, {timeout:?} after the call came"
            ))
        })
    }
}

pin_project! {
    struct Heard {
        #[pin]
        to_all: OwnedNotified,
        #[pin]
        to_connection: OwnedNotified,
        #[pin]
        deadline: Option<Sleep>,
    }
}

impl End {
    /// The status to end with, once the time is over; until then, whoever polls is woken by it.
    fn poll(&mut self, task: &mut Task<'_>) -> Poll<Status> {
        let Self {
            to_all,
            to_connection,
            deadline,
            heard,
        } = self;
        let heard = heard.get_or_insert_with(|| {
            Box::pin(Heard {
                to_all: to_all.heard(),
                to_connection: to_connection.heard(),
                deadline: deadline.map(|deadline| sleep_until(deadline.until)),
            })
        });
        let heard = heard.as_mut().project();
        // They hear what is said from when they are made, and are polled before the look, so that it cannot be too early.
        let (_, _) = (heard.to_all.poll(task), heard.to_connection.poll(task));
        let _ = heard.deadline.as_pin_mut().map(|over| over.poll(task));
        self.status().map_or(Poll::Pending, Poll::Ready)
    }

    /// What the call ends with, once its time is over.
    fn status(&self) -> Option<Status> {
        let told = self.to_all.status().or_else(|| self.to_connection.status());
        told.or_else(|| self.deadline.as_ref()?.status())
    }
}

pin_project! {
    /// A call until its response begins.
    pub(super) struct LimitedFuture<F> {
        #[pin]
        response: F,
        // Until the response has it.
        end: Option<End>,
    }
}

impl<F, O, E> Future for LimitedFuture<F>
where
    F: Future<Output = Result<Response<O>, E>>,
{
    type Output = Result<Response<LimitedBody<O>>, E>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let end = this.end.as_mut().expect("a future gives one response");
        let response = match this.response.poll(task) {
            Poll::Ready(response) => response?.map(Some),
            Poll::Pending => ready!(end.poll(task)).into_http::<()>().map(|()| None),
        };
        let end = this.end.take().expect("it was there");
        Poll::Ready(Ok(response.map(|body| LimitedBody { body, end })))
    }
}

/// A response's body that ends when the time is over.
pub(super) struct LimitedBody<B> {
    /// `None` once it was cut off.
    body: Option<B>,
    end: End,
}

impl<B: Body + Unpin> Body for LimitedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let status = match Pin::new(body).poll_frame(task) {
            // A stream that always has something to say is stopped as well.
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => match self.end.status() {
                Some(status) => status,
                None => return Poll::Ready(Some(Ok(frame))),
            },
            Poll::Ready(last) => return Poll::Ready(last),
            Poll::Pending => ready!(self.end.poll(task)),
        };
        self.body = None;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    status
        .add_header(&mut trailers)
        .expect("a status of ours is of plain text");
    trailers
}
