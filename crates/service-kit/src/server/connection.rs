//! One connection, with the limits that neither hyper nor tonic knows: when its peer has to have said something, how much it may say
//! that asks for nothing, and when it ends.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tonic::transport::server::Connected;

use super::{admission::Admitted, frames::Frames, notice::Notice, tls::Peer, unread::Resets};
use crate::lifecycle::CUT_OFF_WITHIN;

/// What a client of HTTP/2 begins with (RFC 9113, section 3.4): a fixed text, and the head of a SETTINGS frame.
const BEGINNING: usize = 24 + 9;

/// How long a connection may take, and last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime {
    /// Until the peer has begun to speak HTTP/2.
    pub(super) handshake: Duration,
    /// Until its peer is told to go; never when `None`.
    pub(super) age: Option<Duration>,
    /// From then on, until what is still under way on it is ended.
    pub(super) drain_limit: Duration,
}

/// A connection that keeps its place among the others until it is dropped. What is read from it fails when its peer has said
/// nothing of HTTP/2 in time, when it floods us, and at the end of its life, of which its calls are told before.
#[derive(Debug)]
pub(super) struct Connection<IO> {
    io: IO,
    place: Admitted,
    beginning: Option<Beginning>,
    frames: Frames,
    resets: Resets,
    end: Option<End>,
    over: Notice,
}

/// What each request of a connection carries of it.
#[derive(Debug, Clone)]
pub(super) struct OfConnection {
    /// Who is at the other end.
    pub(super) peer: Peer,
    pub(super) resets: Resets,
    /// Given when the time of its calls is over.
    pub(super) over: Notice,
}

#[derive(Debug)]
struct Beginning {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

#[derive(Debug)]
struct End {
    /// When its calls are told, and then when it is over for who has not heard.
    due: Pin<Box<Sleep>>,
    /// How long the calls had.
    drain_limit: Duration,
}

impl<IO> Connection<IO> {
    /// Its peer is waited for from now on.
    pub(super) fn new(io: IO, place: Admitted, lifetime: Lifetime) -> Self {
        Self {
            io,
            frames: Frames::new(place.control_frames()),
            place,
            resets: Resets::default(),
            beginning: Some(Beginning {
                missing: BEGINNING,
                deadline: Box::pin(sleep(lifetime.handshake)),
            }),
            end: lifetime.age.map(|age| End {
                due: Box::pin(sleep(age + lifetime.drain_limit)),
                drain_limit: lifetime.drain_limit,
            }),
            over: Notice::default(),
        }
    }

    /// Fails once a time is over; until then it wakes the task when one is.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Some(beginning) = &mut self.beginning
            && beginning.deadline.as_mut().poll(context).is_ready()
        {
            self.beginning = None;
            self.place.too_slow();
            return Err(timed_out("the peer has not begun to speak HTTP/2 in time"));
        }
        while let Some(end) = &mut self.end
            && end.due.as_mut().poll(context).is_ready()
        {
            if self.over.is_given() {
                self.end = None;
                return Err(timed_out("the connection has reached its age"));
            }
            self.over.give(format!(
                "the connection has reached its age, and this call took longer than the {:?} that it gives calls to end",
                end.drain_limit
            ));
            end.due.as_mut().reset(Instant::now() + CUT_OFF_WITHIN);
        }
        Ok(())
    }

    fn has_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(beginning) = &mut self.beginning {
            beginning.missing = beginning.missing.saturating_sub(bytes.len());
            if beginning.missing == 0 {
                self.beginning = None;
            }
        }
        if self.frames.read(bytes) {
            return Ok(());
        }
        self.place.too_much();
        Err(io::Error::other(
            "the peer floods the connection with frames that ask for nothing",
        ))
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        Poll::Ready(self.has_read(&buffer.filled()[before..]))
    }
}

/// Writing is where a connection waits whose peer reads nothing: it ends there as well.
impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes))?;
        self.frames.written(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, slices))?;
        let mut left = written;
        for slice in slices {
            let part = left.min(slice.len());
            self.frames.written(&slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl<IO: Connected<ConnectInfo: Into<Peer>>> Connected for Connection<IO> {
    type ConnectInfo = OfConnection;

    fn connect_info(&self) -> Self::ConnectInfo {
        OfConnection {
            peer: self.io.connect_info().into(),
            resets: self.resets.clone(),
            over: self.over.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, net::Ipv4Addr, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::{Instant, advance},
    };

    use super::{BEGINNING, CUT_OFF_WITHIN, Connection, Lifetime};
    use crate::{
        Telemetry,
        config::{LimitsConfig, as_usize},
        server::admission::Admission,
    };

    const HANDSHAKE: Duration = Duration::from_secs(10);
    const DRAIN_LIMIT: Duration = Duration::from_secs(20);

    fn connected(age: Option<Duration>) -> (DuplexStream, Connection<DuplexStream>) {
        let meter = Telemetry::metrics_only().expect("metrics").meter("test");
        let admission = Admission::new(&LimitsConfig::default(), &meter);
        let place = admission
            .admit(Ipv4Addr::LOCALHOST.into())
            .expect("a place");
        let (peer, io) = duplex(64);
        let lifetime = Lifetime {
            handshake: HANDSHAKE,
            age,
            drain_limit: DRAIN_LIMIT,
        };
        (peer, Connection::new(io, place, lifetime))
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_trickles_its_first_words_is_cut_off_when_its_time_is_over() {
        let (mut peer, mut connection) = connected(None);
        let began = Instant::now();
        let error = loop {
            peer.write_all(b"P").await.expect("room");
            match connection.read(&mut [0; 8]).await {
                Ok(_) => advance(Duration::from_secs(1)).await,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), HANDSHAKE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_cut_off_without_another_word() {
        let (_peer, mut connection) = connected(None);
        let began = Instant::now();
        let silence = connection.read(&mut [0; 8]).await;
        assert_eq!(
            silence.expect_err("no word").kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(began.elapsed(), HANDSHAKE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_begun_may_be_silent_for_as_long_as_it_likes() {
        let (mut peer, mut connection) = connected(None);
        peer.write_all(&[b'P'; BEGINNING]).await.expect("room");
        let mut beginning = [0; BEGINNING];
        connection.read_exact(&mut beginning).await.expect("said");
        advance(Duration::from_hours(1)).await;
        peer.write_all(b"x").await.expect("room");
        assert_eq!(connection.read_u8().await.expect("said"), b'x');
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_only_asks_whether_we_are_there_is_cut_off() {
        let (mut peer, mut connection) = connected(None);
        peer.write_all(&[b'P'; 24]).await.expect("room");
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let flood = async { while peer.write_all(&ping).await.is_ok() {} };
        let taken = async {
            let mut taken = 0;
            loop {
                match connection.read(&mut [0; 64]).await {
                    Ok(0) | Err(_) => break taken,
                    Ok(bytes) => taken += bytes,
                }
            }
        };
        let taken = tokio::select! {
            taken = taken => taken,
            () = flood => unreachable!("it is read"),
        };
        let most = as_usize(LimitsConfig::default().control_frames);
        // All but the last read, of up to 64 bytes, and the preface.
        assert!(
            ((most - 4) * 17..(most + 4) * 17).contains(&taken),
            "{taken}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_at_its_age_though_its_peer_reads_nothing() {
        let age = Duration::from_mins(1);
        let (mut peer, mut connection) = connected(Some(age));
        peer.write_all(&[b'P'; BEGINNING]).await.expect("room");
        let mut beginning = [0; BEGINNING];
        connection.read_exact(&mut beginning).await.expect("said");
        let (began, over) = (Instant::now(), connection.over.clone());
        let (told, ended) = tokio::join!(
            async {
                over.heard().await;
                began.elapsed()
            },
            connection.write_all(&[0; 1024])
        );
        assert_eq!(told, age + DRAIN_LIMIT);
        assert_eq!(
            ended.expect_err("nobody reads").kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(began.elapsed(), told + CUT_OFF_WITHIN);
    }
}
