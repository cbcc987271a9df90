//! One HTTP/2 connection: its streams, how many there may be, whether its peer is alive, and its end.

mod driving;
mod ended;
mod liveness;
mod names;
mod pinger;
mod slots;
#[cfg(test)]
mod tests;
mod vitals;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use tokio::{select, time::Instant};

pub(super) use driving::{Driving, Unproved};
use names::UnknownNames;
pub(super) use slots::StreamSlot;
use slots::StreamSlots;
pub(crate) use vitals::Availability;
use vitals::Vitals;

use super::{NotOpened, io::Line, stream::Stream};

/// A connection that takes calls, shared by all that use it.
///
/// The task that drives it ends when the connection does: when the peer closes it or does not answer, or when the last
/// handle and the last stream are gone.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: Arc<str>,
    send: Mutex<Sender>,
    slots: Arc<StreamSlots>,
    vitals: Arc<Vitals>,
    line: Arc<Line>,
    /// The most bytes of metadata that a response may have.
    metadata_limit: u32,
    has_answered: AtomicBool,
    /// The task's own, by which it sees a GOAWAY. Kept here, because h2 closes when the last of them is gone.
    _sentinel: Arc<Mutex<SendRequest<Bytes>>>,
}

/// By what requests are sent.
#[derive(Debug)]
struct Sender {
    http2: SendRequest<Bytes>,
    unknown: UnknownNames,
}

impl Connection {
    /// The address on its other side.
    pub(crate) fn peer(&self) -> &Arc<str> {
        &self.peer
    }

    /// Whether it is worth a call, as far as is known. One atomic load.
    pub(crate) fn availability(&self) -> Availability {
        self.vitals.availability()
    }

    /// Whether new streams can be had, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        self.availability() != Availability::Closed
    }

    /// Whether a call on it ever got a status.
    pub(crate) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// A call on it gets a status.
    pub(super) fn answers(&self) {
        // Read first: it is written once, and read by all who call.
        if !self.has_answered() {
            self.has_answered.store(true, Ordering::Relaxed);
        }
    }

    /// Why it ended, in gRFC A94's words; `None` while it has not, and where it was let go.
    pub(crate) fn why_ended(&self) -> Option<&'static str> {
        self.vitals.why_ended()
    }

    /// Waits until no new streams can be had. Cancellation safe.
    pub(crate) async fn closed(&self) {
        self.vitals.until(|now| now == Availability::Closed).await;
    }

    /// A stream, if one is free.
    pub(crate) fn try_stream(self: &Arc<Self>) -> Option<Stream> {
        let slot = StreamSlots::try_acquire(&self.slots)?;
        Some(Stream::new(Arc::clone(self), slot))
    }

    /// Waits for a free stream; `None` when the connection takes no more. Cancellation safe.
    pub(crate) async fn stream(self: &Arc<Self>) -> Option<Stream> {
        let slot = match StreamSlots::try_acquire(&self.slots) {
            Some(slot) => slot,
            None => self.wait_for_slot().await?,
        };
        Some(Stream::new(Arc::clone(self), slot))
    }

    /// The most bytes of metadata that a response may have.
    pub(super) fn metadata_limit(&self) -> u32 {
        self.metadata_limit
    }

    /// The most bytes of metadata that the server says it takes.
    pub(super) fn server_metadata_limit(&self) -> Option<u32> {
        self.line.metadata_limit()
    }

    /// How many streams could be opened at once.
    pub(crate) fn free_streams(&self) -> usize {
        self.slots.free()
    }

    /// Opens a stream.
    #[inline]
    pub(super) fn open(
        &self,
        mut request: http::Request<()>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), NotOpened> {
        // h2 has a lock of its own for it; ours is cheaper than a handle for each stream.
        let mut send = self.send.lock().unwrap_or_else(PoisonError::into_inner);
        send.unknown.tell(request.headers_mut());
        let error = match send.http2.send_request(request, false) {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        // There are never more streams than the server takes, so a handle is nearly always ready: what it is not for shows
        // in a failure, and to ask before would cost every call.
        match send
            .http2
            .poll_ready(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(Ok(())) => Err(NotOpened::BadRequest(error)),
            Poll::Ready(Err(closing)) => {
                self.vitals.ended(ended::in_words(&closing));
                drop(send);
                self.retire();
                Err(NotOpened::ConnectionClosed)
            }
            // The server has just lowered its limit, and h2 holds back the stream before: another handle is free.
            Poll::Pending => {
                send.http2 = send.http2.clone();
                Err(NotOpened::HeldBack)
            }
        }
    }

    async fn wait_for_slot(&self) -> Option<StreamSlot> {
        let mut slot = pin!(StreamSlots::acquire(&self.slots));
        select! {
            biased;
            () = self.closed() => None,
            slot = &mut slot => Some(slot),
        }
    }

    /// Gives the connection no new stream; those that it has finish.
    pub(crate) fn retire(&self) {
        self.vitals.set(Availability::Closed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.vitals.abandon();
    }
}

#[allow(
    dead_code,
    reason = "for the pool of connections and the call path, which take it up next"
)]
impl Connection {
    /// Waits until the availability is another than `from`, and gives that. Cancellation safe; a change between the
    /// look at `from` and this is not missed.
    pub(crate) async fn changed(&self, from: Availability) -> Availability {
        self.vitals.until(|now| now != from).await
    }

    /// A call that began then has ended by its deadline. When nothing at all was heard meanwhile, the peer is asked by a
    /// PING whether it is there; nothing comes of it when it answers.
    ///
    /// A peer that hangs may have answered others just after the call began, so that only the later half of its time counts.
    pub(crate) fn suspect(&self, began: Instant) {
        let half = began.elapsed() / 2;
        if self.line.heard_at() <= began + half {
            // At once, and not when the task runs: the caller's next call may be faster.
            self.vitals
                .set_if(Availability::Open, Availability::Suspected);
            self.vitals.suspect();
        }
    }

    /// The most streams that the server takes at a time; `None` while it has set no limit.
    pub(crate) fn stream_limit(&self) -> Option<usize> {
        self.slots.limit()
    }

    /// How many streams are taken, as of now.
    pub(crate) fn streams(&self) -> usize {
        self.slots.in_use()
    }
}
