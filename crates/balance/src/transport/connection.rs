//! One HTTP/2 connection: its streams, how many there may be, and its end.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use registry::Address;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    sync::{Notify, Semaphore},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use super::stream::Stream;

/// A stream's window: what one response may have under way before its reader has taken it.
const STREAM_WINDOW: u32 = 1 << 20;
/// The connection's window is as large as HTTP/2 allows, so that slow readers, each bounded by its own stream's window,
/// never stall the other calls of the connection.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Frames as large as this are taken from the server, for fewer of them in large messages.
const FRAME_SIZE: u32 = 64 << 10;
/// While calls wait for a stream, how often to look whether the server has said GOAWAY meanwhile.
const GOAWAY_LOOK: Duration = Duration::from_millis(100);
/// How many streams that we have reset are remembered, to ignore what the server had sent for them before it knew.
const RESET_STREAMS: usize = 1_024;

/// A connection that takes calls, shared by all that use it.
///
/// The task that drives it ends when the connection does: when the peer closes it, or when the last handle and the last
/// stream are gone.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: Arc<str>,
    send: SendRequest<Bytes>,
    slots: Arc<StreamSlots>,
    end: Arc<End>,
}

impl Connection {
    /// The address on its other side.
    pub(crate) fn peer(&self) -> &Arc<str> {
        &self.peer
    }

    /// Whether new streams can be had, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        !self.end.has_come()
    }

    /// Waits until no new streams can be had. Cancellation safe.
    pub(crate) async fn closed(&self) {
        self.end.comes().await;
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

    /// How many streams could be opened at once.
    pub(crate) fn free_streams(&self) -> usize {
        self.slots.free.available_permits()
    }

    pub(super) fn handle(&self) -> SendRequest<Bytes> {
        self.send.clone()
    }

    async fn wait_for_slot(&self) -> Option<StreamSlot> {
        let mut slot = pin!(StreamSlots::acquire(&self.slots));
        loop {
            // That the server has said GOAWAY shows here only; retiring the connection wakes all that wait.
            if self.send.clone().ready().await.is_err() {
                self.retire();
            }
            select! {
                biased;
                () = self.closed() => return None,
                slot = &mut slot => return Some(slot),
                () = sleep(GOAWAY_LOOK) => {}
            }
        }
    }

    /// Gives the connection no new stream; those that it has finish.
    pub(crate) fn retire(&self) {
        self.end.tell();
    }
}

/// A connection that is being driven, and has not yet proved that somebody is there. Dropping it closes the socket.
pub(super) struct Driving {
    connection: Connection,
    ping: h2::PingPong,
    task: AbortOnDropHandle<()>,
}

impl Driving {
    pub(super) async fn start<T>(socket: T, peer: &Address) -> Result<Self, h2::Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (send, mut driver) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_SIZE)
            .max_concurrent_reset_streams(RESET_STREAMS)
            // We count the streams ourselves: h2 would queue without bound.
            .initial_max_send_streams(usize::MAX)
            // h2 counts answers to calls that were given up long ago against the connection, for its whole life.
            .max_local_error_reset_streams(None)
            .handshake(socket)
            .await?;
        let ping = driver.ping_pong().expect("taken once");
        let slots = Arc::new(StreamSlots::default());
        let end = Arc::new(End::default());
        let peer: Arc<str> = peer.as_str().into();
        let connection = Connection {
            peer: Arc::clone(&peer),
            send,
            slots: Arc::clone(&slots),
            end: Arc::clone(&end),
        };
        let telling = TellOnDrop(end);
        let task = tokio::spawn(async move {
            let _tells = telling;
            let ended = poll_fn(|cx| {
                let end = Pin::new(&mut driver).poll(cx);
                slots.limit(driver.max_concurrent_send_streams());
                end
            })
            .await;
            match ended {
                Ok(()) => tracing::debug!(%peer, "connection closed"),
                Err(error) => tracing::debug!(%peer, %error, "connection lost"),
            }
        });
        Ok(Self {
            connection,
            ping,
            task: AbortOnDropHandle::new(task),
        })
    }

    /// Waits until the peer acknowledges a PING. By then its settings have come too: they are the first that it sends.
    pub(super) async fn answered(&mut self) -> Result<(), h2::Error> {
        self.ping.ping(h2::Ping::opaque()).await.map(drop)
    }

    pub(super) fn into_connection(self) -> Connection {
        self.task.detach();
        self.connection
    }
}

/// That a connection takes no new streams any more. Asked for each pick, so it is an atomic and no lock.
#[derive(Debug, Default)]
struct End {
    come: AtomicBool,
    told: Notify,
}

impl End {
    fn has_come(&self) -> bool {
        self.come.load(Ordering::Acquire)
    }

    fn tell(&self) {
        self.come.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Cancellation safe.
    async fn comes(&self) {
        let mut told = pin!(self.told.notified());
        told.as_mut().enable();
        if !self.has_come() {
            told.await;
        }
    }
}

/// Tells the end however the driving task ends.
struct TellOnDrop(Arc<End>);

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        self.0.tell();
    }
}

/// Counts a connection's streams against the limit that the server sets; who waits longest is served first.
///
/// A fresh clone of `SendRequest` is always ready, and h2 queues what is above the limit without bound.
#[derive(Debug)]
struct StreamSlots {
    free: Semaphore,
    limit: AtomicUsize,
    /// Slots that are to be withdrawn and are still in use.
    owed: AtomicUsize,
}

impl Default for StreamSlots {
    fn default() -> Self {
        Self {
            free: Semaphore::new(Self::UNLIMITED),
            limit: AtomicUsize::new(Self::UNLIMITED),
            owed: AtomicUsize::new(0),
        }
    }
}

impl StreamSlots {
    /// Far from what a semaphore can hold, so that no order of limits and ends overflows it.
    const UNLIMITED: usize = Semaphore::MAX_PERMITS / 2;

    fn try_acquire(this: &Arc<Self>) -> Option<StreamSlot> {
        this.free.try_acquire().ok()?.forget();
        Some(StreamSlot(Arc::clone(this)))
    }

    /// Cancellation safe: who stops waiting loses its turn and nothing else.
    async fn acquire(this: &Arc<Self>) -> StreamSlot {
        this.free.acquire().await.expect("never closed").forget();
        StreamSlot(Arc::clone(this))
    }

    /// Follows the server's limit; called by the one task that drives the connection.
    fn limit(&self, limit: usize) {
        let limit = limit.min(Self::UNLIMITED);
        let before = self.limit.swap(limit, Ordering::Relaxed);
        if limit < before {
            let withdrawn = self.free.forget_permits(before - limit);
            self.owed
                .fetch_add(before - limit - withdrawn, Ordering::AcqRel);
        } else if limit > before {
            let more = limit - before;
            let pay = |owed: usize| Some(owed.saturating_sub(more));
            let owed = self
                .owed
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, pay);
            self.free
                .add_permits(more.saturating_sub(owed.unwrap_or_default()));
        }
    }
}

/// The right to one stream. Not `Clone`: it is given back once.
#[derive(Debug)]
pub(super) struct StreamSlot(Arc<StreamSlots>);

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let owed = |owed: usize| owed.checked_sub(1);
        if self
            .0
            .owed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, owed)
            .is_err()
        {
            self.0.free.add_permits(1);
        }
    }
}
