//! Ends the calls that are still there when their time is over: each is told so by its status, and its connection is not
//! broken.
//!
//! A call that has not begun to answer gets a response of trailers alone, one that is in the middle of its messages gets
//! trailers next. What its handler was doing is dropped. A call that never waits costs a look at a flag.

use std::{
    pin::Pin,
    task::{Context as Task, Poll, ready},
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::futures::OwnedNotified;
use tonic::Status;
use tower::{Layer, Service};

use super::calls::Calls;

/// The layer. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct CutOff(Calls);

impl CutOff {
    /// Ends calls when these are [cut off](Calls::cut_off).
    pub(super) fn new(calls: Calls) -> Self {
        Self(calls)
    }
}

impl<S> Layer<S> for CutOff {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Limited {
            inner,
            calls: self.0.clone(),
        }
    }
}

/// The service that the layer makes.
#[derive(Debug, Clone)]
pub(super) struct Limited<S> {
    inner: S,
    calls: Calls,
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
        LimitedFuture {
            response: self.inner.call(request),
            end: Some(End {
                calls: self.calls.clone(),
                heard: None,
            }),
        }
    }
}

/// A call's view of its end.
struct End {
    calls: Calls,
    /// Made when the call waits for the first time.
    heard: Option<Pin<Box<OwnedNotified>>>,
}

impl End {
    /// The status to end with, once the time is over; until then, whoever polls is woken by it.
    fn poll(&mut self, task: &mut Task<'_>) -> Poll<Status> {
        let heard = self
            .heard
            .get_or_insert_with(|| Box::pin(self.calls.told_of_cut_off()));
        // It hears what is said from when it is made, so that the look cannot be too early.
        if let Some(status) = self.calls.status_of_cut_off() {
            return Poll::Ready(status);
        }
        ready!(heard.as_mut().poll(task));
        self.calls
            .status_of_cut_off()
            .map_or(Poll::Pending, Poll::Ready)
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
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                match self.end.calls.status_of_cut_off() {
                    Some(status) => status,
                    None => return Poll::Ready(Some(Ok(frame))),
                }
            }
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
