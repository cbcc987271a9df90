//! One HTTP/2 connection: its streams, how many there may be, and its end.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::client::SendRequest;
use registry::Address;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    sync::Notify,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// A stream's window: what one response may have under way before its reader has taken it.
const STREAM_WINDOW: u32 = 1 << 20;
/// The connection's window is as large as HTTP/2 allows, so that slow readers, each bounded by its own stream's window,
/// never stall the other calls of the connection.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Frames as large as this are taken from the server, for fewer of them in large messages.
const FRAME_SIZE: u32 = 64 << 10;
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
    closed: CancellationToken,
}

impl Connection {
    /// The address on its other side.
    pub(crate) fn peer(&self) -> &Arc<str> {
        &self.peer
    }

    /// Whether new streams can be had, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.is_cancelled()
    }

    /// Waits until no new streams can be had. Cancellation safe.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Waits for the right to open a stream, and for the connection to take it; `None` when the connection takes no
    /// more. What was to be sent has then not left.
    pub(crate) async fn stream(&self) -> Option<(SendRequest<Bytes>, StreamSlot)> {
        let slot = select! {
            biased;
            slot = StreamSlots::acquire(&self.slots) => slot,
            () = self.closed() => return None,
        };
        match self.send.clone().ready().await {
            Ok(send) => Some((send, slot)),
            Err(_going_away) => {
                self.retire();
                None
            }
        }
    }

    /// Gives the connection no new stream; those that it has finish.
    pub(crate) fn retire(&self) {
        self.closed.cancel();
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
            .handshake(socket)
            .await?;
        let ping = driver.ping_pong().expect("taken once");
        let slots = Arc::new(StreamSlots::default());
        let closed = CancellationToken::new();
        let peer: Arc<str> = peer.as_str().into();
        let connection = Connection {
            peer: Arc::clone(&peer),
            send,
            slots: Arc::clone(&slots),
            closed: closed.clone(),
        };
        let task = tokio::spawn(async move {
            let _closes = closed.drop_guard();
            let end = poll_fn(|cx| {
                let end = Pin::new(&mut driver).poll(cx);
                slots.limit(driver.max_concurrent_send_streams());
                end
            })
            .await;
            match end {
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

/// Counts a connection's streams against the limit that the server sets.
///
/// A fresh clone of `SendRequest` is always ready, and h2 queues what is above the limit without bound.
#[derive(Debug)]
struct StreamSlots {
    used: AtomicUsize,
    limit: AtomicUsize,
    freed: Notify,
}

impl Default for StreamSlots {
    fn default() -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            freed: Notify::new(),
        }
    }
}

impl StreamSlots {
    async fn acquire(this: &Arc<Self>) -> StreamSlot {
        loop {
            if let Some(slot) = Self::try_acquire(this) {
                return slot;
            }
            let freed = this.freed.notified();
            // One may have been freed between the look and the registration; a permit is kept for `notified`, but a
            // raised limit wakes only those who wait.
            if let Some(slot) = Self::try_acquire(this) {
                return slot;
            }
            freed.await;
        }
    }

    fn try_acquire(this: &Arc<Self>) -> Option<StreamSlot> {
        let limit = this.limit.load(Ordering::Relaxed);
        this.used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
                (used < limit).then_some(used + 1)
            })
            .ok()
            .map(|_| StreamSlot(Arc::clone(this)))
    }

    fn limit(&self, limit: usize) {
        if self.limit.swap(limit, Ordering::Relaxed) < limit {
            self.freed.notify_waiters();
        }
    }
}

/// The right to one stream. Not `Clone`: it is given back once.
#[derive(Debug)]
pub(crate) struct StreamSlot(Arc<StreamSlots>);

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}
