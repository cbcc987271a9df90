//! What callers still send of a request that nobody reads any more: a call that is refused in the middle of its message, a handler that
//! answers early, one that panics.
//!
//! h2 resets such a call once it is answered, and what comes after that is nothing bad for as long as h2 remembers the reset: a second, and
//! of 50 calls of a connection. Beyond that each DATA frame is a mistake of the peer's for it, and a thousand of them end the
//! connection, with every other call on it, though the peer has only not heard yet. So what still comes is taken and dropped until the
//! caller has ended it, or there is a place among the resets that h2 remembers. Who says no more needs none, but would take one of h2's
//! all the same: these go all together, in a turn of which nobody else is reset.
//!
//! Of who is being answered for long no more is taken than a window, which opens another one to the caller: no more than that is ever
//! under way. h2 drops that itself, and resets the call with the end of its answer, for which nothing can wait.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    select,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    task::yield_now,
    time::{sleep, timeout},
};
use tonic::{Status, body};
use tower::{Layer, Service};

use super::{STREAM_WINDOW, connection::OfConnection};

/// Half of those that h2 remembers: it forgets only when it next looks at the connection, which may be when the other half comes.
const REMEMBERED: u32 = 25;
/// For how long h2 does, and a moment for the response to have left.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(1_250);
/// Who has said nothing for so long after the answer has nothing under way of which its reset could make a mistake: it need not be
/// remembered.
const QUIET: Duration = Duration::from_secs(2);

/// The places among the resets that h2 remembers of one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Resets {
    places: Arc<Semaphore>,
    /// Tells the silent that it is their turn.
    turn: Arc<Notify>,
}

impl Default for Resets {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(REMEMBERED as usize)),
            turn: Arc::default(),
        }
    }
}

impl Resets {
    /// A place, once there is one; who has waited longest is the next. `None` never comes: the places are not closed.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().acquire_owned().await.ok()
    }

    /// The turn of the silent, once there is one. The first of them takes all places, waiting for them as for one; to the others it is
    /// told, and `None`.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let all = self.places.clone().acquire_many_owned(REMEMBERED);
        select! {
            biased;
            () = self.turn.notified() => None,
            all = all => {
                self.turn.notify_waiters();
                all.ok()
            }
        }
    }
}

/// The layer. From here on requests carry of their connection who is at the other end, and nothing else.
#[derive(Debug, Clone)]
pub(super) struct Unread;

impl<S> Layer<S> for Unread {
    type Service = Taken<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Taken(inner)
    }
}

/// The service that the layer makes.
#[derive(Debug, Clone)]
pub(super) struct Taken<S>(S);

impl<S, O> Service<Request<body::Body>> for Taken<S>
where
    S: Service<Request<TakenBody>, Response = Response<O>>,
{
    type Response = Response<AnsweringBody<O>>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<body::Body>) -> Self::Future {
        let extensions = request.extensions_mut();
        let resets =
            extensions
                .remove::<OfConnection>()
                .map(|OfConnection { peer, resets, .. }| {
                    // By it, tonic knows the peer's address.
                    extensions.insert(peer.tcp);
                    if let Some(caller) = peer.caller {
                        extensions.insert(caller);
                    }
                    resets
                });
        let (answering, answered) = oneshot::channel();
        let request = request.map(|body| {
            TakenBody(Some(Coming {
                body,
                answered,
                resets: resets.unwrap_or_default(),
            }))
        });
        Answering {
            response: self.0.call(request),
            answering: Some(answering),
        }
    }
}

/// A request's body; `None` once it has ended. What still comes of it when it is dropped is taken.
#[derive(Debug)]
pub(super) struct TakenBody(Option<Coming>);

#[derive(Debug)]
struct Coming {
    body: body::Body,
    /// Hears when nothing is left of the response.
    answered: oneshot::Receiver<Infallible>,
    resets: Resets,
}

impl Body for TakenBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(coming) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let next = ready!(Pin::new(&mut coming.body).poll_frame(task));
        if !matches!(next, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        let coming = self.0.as_ref();
        coming.is_none_or(|coming| coming.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let coming = self.0.as_ref();
        coming.map_or(SizeHint::with_exact(0), |coming| coming.body.size_hint())
    }
}

impl Drop for TakenBody {
    fn drop(&mut self) {
        if self.is_end_stream() {
            return;
        }
        // Outside of a runtime there is no connection any more either.
        if let (Some(coming), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(coming.taken());
        }
    }
}

impl Coming {
    /// Ends with the caller's stream, with the connection, or when h2 has forgotten the reset.
    async fn taken(self) {
        let Self {
            mut body,
            mut answered,
            resets,
        } = self;
        let place = select! {
            biased;
            more = a_window_of(&mut body) => {
                drop(body);
                if !more {
                    return;
                }
                let _ = answered.await;
                // It is reset, and remembered if h2 could: a place at once, or none.
                resets.places.try_acquire_owned().ok()
            }
            // Nothing is sent, only dropped.
            _ = &mut answered => {
                let place = until_reset(&mut body, &resets).await;
                // Now it is reset.
                drop(body);
                place
            }
        };
        if let Some(place) = place {
            sleep(FORGOTTEN_AFTER).await;
            drop(place);
        }
    }
}

/// Takes what comes until it is a window, and says whether there may be more: a frame each time that the task has its turn, so that
/// one that never ends holds up nobody.
async fn a_window_of(body: &mut body::Body) -> bool {
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        taken += frame.data_ref().map_or(0, Bytes::len) as u64;
        if taken >= u64::from(STREAM_WINDOW) {
            return true;
        }
        yield_now().await;
    }
    false
}

/// Takes what comes until its call may be reset, and says what is to be kept until h2 has forgotten that: a place, or nothing of one
/// that has ended, or is silent and goes with others. Who speaks again waits as a new one.
async fn until_reset(body: &mut body::Body, resets: &Resets) -> Option<OwnedSemaphorePermit> {
    loop {
        select! {
            biased;
            silent = is_silent(body) => if !silent {
                return None;
            },
            place = resets.place() => return place,
        }
        select! {
            biased;
            next = body.frame() => if !matches!(next, Some(Ok(_))) {
                return None;
            },
            turn = resets.turn() => {
                let all = turn?;
                // The first is the last to go: with its reset h2 looks at the connection, and forgets those of the others.
                sleep(FORGOTTEN_AFTER).await;
                return Some(all);
            }
        }
    }
}

/// Takes what comes in the same way until nothing has come for a while; not so when nothing can come any more.
async fn is_silent(body: &mut body::Body) -> bool {
    loop {
        match timeout(QUIET, body.frame()).await {
            Ok(Some(Ok(_))) => yield_now().await,
            Ok(_) => return false,
            Err(_) => return true,
        }
    }
}

pin_project! {
    /// A call until its response begins.
    pub(super) struct Answering<F> {
        #[pin]
        response: F,
        // Until the response has it.
        answering: Option<oneshot::Sender<Infallible>>,
    }
}

impl<F, O, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<O>, E>>,
{
    type Output = Result<Response<AnsweringBody<O>>, E>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(task))?;
        let answering = this.answering.take();
        Poll::Ready(Ok(response.map(|body| AnsweringBody {
            body,
            _answering: answering,
        })))
    }
}

/// A response's body: dropped, the call is answered.
#[derive(Debug)]
pub(super) struct AnsweringBody<B> {
    body: B,
    _answering: Option<oneshot::Sender<Infallible>>,
}

impl<B: Body + Unpin> Body for AnsweringBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(task)
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
