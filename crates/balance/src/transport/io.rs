//! The bytes below HTTP/2: counted as they are heard, and cut off when their peer is given up.

mod settings;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use settings::FirstSettings;

/// What is known of a socket by whoever does not read it. Apart from what picks look
/// at, because each read writes to it.
#[derive(Debug)]
pub(super) struct Line {
    since: Instant,
    heard: AtomicU64,
    /// Nanoseconds from `since` until something was heard last.
    heard_after: AtomicU64,
    /// `u32::MAX` where the server has said none.
    metadata_limit: AtomicU32,
    cut: OnceLock<String>,
}

impl Line {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            heard: AtomicU64::new(0),
            heard_after: AtomicU64::new(0),
            metadata_limit: AtomicU32::new(u32::MAX),
            cut: OnceLock::new(),
        }
    }

    /// The most bytes of metadata that the server says it takes.
    pub(super) fn metadata_limit(&self) -> Option<u32> {
        let limit = self.metadata_limit.load(Ordering::Relaxed);
        (limit != u32::MAX).then_some(limit)
    }

    /// How many bytes have ever been heard.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// When something was heard last; before that, since when there is a line.
    pub(super) fn heard_at(&self) -> Instant {
        self.since + Duration::from_nanos(self.heard_after.load(Ordering::Relaxed))
    }

    fn hear(&self, bytes: usize) {
        self.heard.fetch_add(bytes as u64, Ordering::Relaxed);
        let after = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.heard_after.store(after, Ordering::Relaxed);
    }

    /// Fails all that is done with the socket from now on, and says why.
    pub(super) fn cut(&self, why: String) {
        let _first_counts = self.cut.set(why);
    }

    fn check(&self) -> io::Result<()> {
        match self.cut.get() {
            None => Ok(()),
            Some(why) => Err(io::Error::new(io::ErrorKind::TimedOut, why.as_str())),
        }
    }
}

/// A socket on a [`Line`].
#[derive(Debug)]
pub(super) struct OnLine<T> {
    socket: T,
    line: Arc<Line>,
    /// Until they have been heard.
    settings: Option<FirstSettings>,
}

impl<T> OnLine<T> {
    pub(super) fn new(socket: T) -> (Self, Arc<Line>) {
        let line = Arc::new(Line::new());
        let own = Self {
            socket,
            line: Arc::clone(&line),
            settings: Some(FirstSettings::default()),
        };
        (own, line)
    }
}

impl<T> OnLine<T> {
    /// Looks for what h2 does not show of the server's settings.
    fn look_for_settings(&mut self, heard: &[u8]) {
        let Some(settings) = &mut self.settings else {
            return;
        };
        if let Some(limit) = settings.metadata_limit(heard) {
            self.line.metadata_limit.store(limit, Ordering::Relaxed);
            self.settings = None;
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for OnLine<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.line.check()?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        self.look_for_settings(&buffer.filled()[before..]);
        self.line.hear(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for OnLine<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.line.check()?;
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line.check()?;
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::OnLine;

    #[tokio::test]
    async fn what_is_heard_is_counted_and_nothing_passes_a_line_that_is_cut() {
        let (near, mut far) = duplex(64);
        let (mut near, line) = OnLine::new(near);
        far.write_all(b"hello").await.expect("room");
        near.read_exact(&mut [0; 5]).await.expect("written");
        assert_eq!(line.heard(), 5);
        line.cut("it went silent".into());
        for failed in [
            near.read(&mut [0]).await.expect_err("cut"),
            near.write(b"x").await.expect_err("cut"),
            near.flush().await.expect_err("cut"),
            near.shutdown().await.expect_err("cut"),
        ] {
            assert_eq!(failed.to_string(), "it went silent");
        }
    }
}
