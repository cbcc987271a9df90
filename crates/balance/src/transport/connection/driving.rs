//! The task behind a connection.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::AtomicBool},
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    task::JoinHandle,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Availability, Connection, Sender, ended,
    names::UnknownNames,
    pinger::Pinger,
    slots::StreamSlots,
    vitals::{CloseOnDrop, Vitals},
};
use crate::transport::{
    connect::ConnectOptions,
    io::{Line, OnLine},
    keep_alive::Pace,
};

/// Frames as large as this are taken from the server, for fewer of them in large messages.
const FRAME_SIZE: u32 = 64 << 10;
/// How many times the limit of metadata h2 takes. What is above the limit has to be seen whole to be refused by its size, and
/// h2 itself cuts long trailers short without a word; a connection that comes to four times of this is closed.
const METADATA_SEEN: u32 = 16;
/// How many streams that we have reset are remembered, to ignore what the server had sent for them before it knew.
const RESET_STREAMS: usize = 1_024;

/// A connection that is being driven, and has not yet proved that somebody is there. Dropping it closes the socket.
pub(in crate::transport) struct Driving {
    connection: Connection,
    answered: oneshot::Receiver<()>,
    task: AbortOnDropHandle<Result<(), h2::Error>>,
}

/// What keeps a connection from having proved that somebody is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unproved {
    #[error(transparent)]
    Lost(h2::Error),
    #[error("it was closed before a PING was answered")]
    Closed,
}

impl Driving {
    pub(in crate::transport) async fn start<T>(
        socket: T,
        peer: &str,
        options: &ConnectOptions,
    ) -> Result<Self, h2::Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (socket, line) = OnLine::new(socket);
        let (send, mut http2) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window)
            .max_frame_size(FRAME_SIZE)
            .max_header_list_size(options.metadata_limit.saturating_mul(METADATA_SEEN))
            .max_concurrent_reset_streams(RESET_STREAMS)
            // We count the streams ourselves: h2 would queue without bound.
            .initial_max_send_streams(usize::MAX)
            // h2 counts answers to calls that were given up long ago against the connection, for its whole life.
            .max_local_error_reset_streams(None)
            .handshake(socket)
            .await?;
        let ping = http2.ping_pong().expect("taken once");
        let vitals = Arc::new(Vitals::default());
        let slots = Arc::new(StreamSlots::default());
        let sentinel = Arc::new(Mutex::new(send.clone()));
        let (tells_answer, answered) = oneshot::channel();
        let pace = options.pace.clone();
        let pinger = Pinger::start(ping, &pace, &vitals, &line, tells_answer);
        let driver = Driver {
            http2,
            line: Arc::clone(&line),
            vitals: Arc::clone(&vitals),
            slots: Arc::clone(&slots),
            sentinel: Arc::downgrade(&sentinel),
            pinger,
            pace,
            heard: 0,
            gone: false,
            _closes: CloseOnDrop(Arc::clone(&vitals)),
        };
        let connection = Connection {
            peer: peer.into(),
            send: Mutex::new(Sender {
                http2: send,
                unknown: UnknownNames::default(),
            }),
            slots,
            vitals,
            line,
            metadata_limit: options.metadata_limit,
            has_answered: AtomicBool::new(false),
            _sentinel: sentinel,
        };
        let task = spawn(driver, Arc::clone(&connection.peer));
        Ok(Self {
            connection,
            answered,
            task: AbortOnDropHandle::new(task),
        })
    }

    /// Waits until the peer acknowledges a PING: the handshake returns before the server has said anything, so a hung
    /// server looks connected. By then its settings have come too: they are the first that it sends.
    pub(in crate::transport) async fn answered(self) -> Result<Connection, Unproved> {
        if self.answered.await.is_ok() {
            self.task.detach();
            return Ok(self.connection);
        }
        // The task has ended without an answer.
        match self.task.await {
            Ok(Err(error)) => Err(Unproved::Lost(error)),
            Ok(Ok(())) | Err(_) => Err(Unproved::Closed),
        }
    }
}

fn spawn<T>(driver: Driver<T>, peer: Arc<str>) -> JoinHandle<Result<(), h2::Error>>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    tokio::spawn(async move {
        let ended = driver.await;
        match &ended {
            Ok(()) => tracing::debug!(%peer, "connection closed"),
            Err(error) => tracing::debug!(%peer, %error, "connection lost"),
        }
        ended
    })
}

/// Moves the frames, follows the server's limit and its GOAWAY, and asks for signs of life.
struct Driver<T> {
    http2: h2::client::Connection<OnLine<T>, Bytes>,
    line: Arc<Line>,
    vitals: Arc<Vitals>,
    slots: Arc<StreamSlots>,
    sentinel: Weak<Mutex<SendRequest<Bytes>>>,
    pinger: Pinger,
    pace: Pace,
    /// How much was heard when the peer was listened to last.
    heard: u64,
    /// Whether the server has said GOAWAY.
    gone: bool,
    _closes: CloseOnDrop,
}

impl<T> Future for Driver<T>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(end) = Pin::new(&mut this.http2).poll(cx) {
            match &end {
                Ok(()) => this.vitals.ended(ended::SOCKET_ERROR),
                Err(error) => this.heed(error),
            }
            return Poll::Ready(end);
        }
        this.slots
            .set_limit(this.http2.max_concurrent_send_streams());
        this.listen(cx);
        let slots = &this.slots;
        if this.pinger.poll(cx, || slots.in_use() > 0).is_pending() {
            return Poll::Pending;
        }
        this.vitals.ended(ended::TIMED_OUT);
        let timeout = this.pace.timeout();
        this.line
            .cut(format!("no PING was answered for {timeout:?}"));
        // h2 comes upon the line's end, and gives the reason to each stream.
        match Pin::new(&mut this.http2).poll(cx) {
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

impl<T> Driver<T> {
    /// What came since the last time.
    fn listen(&mut self, cx: &mut Context<'_>) {
        let heard = self.line.heard();
        if heard == self.heard {
            return;
        }
        self.heard = heard;
        self.pinger.hear();
        if !self.gone
            && let Some(error) = self.go_away(cx)
        {
            self.gone = true;
            self.heed(&error);
            self.vitals.set(Availability::Closed);
        }
    }

    /// The GOAWAY that the server has said. h2 tells it to those who want a stream, and to nobody else.
    fn go_away(&self, cx: &mut Context<'_>) -> Option<h2::Error> {
        let sentinel = self.sentinel.upgrade()?;
        let mut send = sentinel.lock().unwrap_or_else(PoisonError::into_inner);
        match send.poll_ready(cx) {
            Poll::Ready(Err(error)) => Some(error),
            _ => None,
        }
    }

    fn heed(&self, error: &h2::Error) {
        self.vitals.ended(ended::in_words(error));
        if is_too_many_pings(error) {
            self.pace.slow_down();
        }
    }
}

/// gRFC A8. h2 shows what a GOAWAY says beside its reason in its text only.
fn is_too_many_pings(error: &h2::Error) -> bool {
    error.is_go_away()
        && error.is_remote()
        && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
        && error.to_string().contains("too_many_pings")
}
