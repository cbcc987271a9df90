//! Sends a request stream as it comes and as flow control lets it.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    thread,
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::Body;
use registry::Cause;
use tokio::task::coop::consume_budget;

use super::replay::{Next, Reader};
use crate::telemetry::Sending;

/// How much of the connection's window a stream takes at a time while its frames are there at once, in bytes: one of
/// HTTP/2's smallest frames. What is left of it when none is there is given back, since other calls could use it.
const AHEAD: usize = 16 << 10;

/// Sends until the request's end or the call's, and gives `place` back after the stream, also when it never runs.
pub(super) fn upload<B, P>(
    reader: Reader<B>,
    stream: SendStream<Bytes>,
    sending: Sending,
    place: P,
) -> impl Future<Output = ()>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Cause>,
{
    let mut upload = Uploading {
        reader,
        stream,
        sending,
        granted: 0,
        ahead: 0,
        _place: place,
    };
    async move {
        // Whether it ended well is for the reader of the response to see.
        let _ = upload.run().await;
    }
}

struct Uploading<B, P> {
    reader: Reader<B>,
    stream: SendStream<Bytes>,
    sending: Sending,
    /// How much h2 takes before more has to be asked for.
    granted: usize,
    /// How much to ask for beyond what is at hand.
    ahead: usize,
    /// Last, so that it is given back when h2 has the stream back.
    _place: P,
}

impl<B, P> Uploading<B, P>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Cause>,
{
    /// `None` when the stream takes no more.
    async fn run(&mut self) -> Option<()> {
        loop {
            // A body that is always ready, and a peer that takes all, must leave a moment for being aborted.
            consume_budget().await;
            match poll_fn(|cx| self.poll_next(cx)).await? {
                Next::Data(data) => self.send(data).await?,
                Next::End(trailers) => return self.finish(trailers),
                Next::Stopped => {
                    self.stream.send_reset(Reason::CANCEL);
                    return None;
                }
            }
        }
    }

    /// What to send next; `None` when the server has ended the call, which it may before it has read the whole request.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        if let Poll::Ready(next) = self.reader.poll_next(cx) {
            return Poll::Ready(Some(next));
        }
        if self.granted > 0 {
            self.stream.reserve_capacity(0);
            self.granted = 0;
        }
        self.ahead = 0;
        self.stream.poll_reset(cx).map(|_| None)
    }

    async fn send(&mut self, mut data: Bytes) -> Option<()> {
        while !data.is_empty() {
            if self.granted < data.len() {
                self.granted = self.reserve(data.len().max(self.ahead)).await?;
            }
            let part = data.split_to(self.granted.min(data.len()));
            self.granted -= part.len();
            self.sending.sent(&part);
            self.stream.send_data(part, false).ok()?;
        }
        self.ahead = AHEAD;
        Some(())
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> Option<()> {
        match trailers {
            Some(trailers) => self.stream.send_trailers(trailers).ok(),
            None => self.stream.send_data(Bytes::new(), true).ok(),
        }
    }

    /// Waits until something can be sent, and tells how much; `None` when the stream is over.
    async fn reserve(&mut self, wanted: usize) -> Option<usize> {
        self.stream.reserve_capacity(wanted);
        match self.stream.capacity() {
            0 => poll_fn(|cx| self.poll_capacity(cx)).await,
            capacity => Some(capacity),
        }
    }

    fn poll_capacity(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        loop {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(0))) => {}
                Poll::Ready(Some(Ok(capacity))) => return Poll::Ready(Some(capacity)),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                Poll::Pending => {
                    return self.reader.poll_stopped(cx).map(|()| {
                        self.stream.send_reset(Reason::CANCEL);
                        None
                    });
                }
            }
        }
    }
}

impl<B, P> Drop for Uploading<B, P> {
    fn drop(&mut self) {
        if thread::panicking() {
            // In this order: whoever sees the reset asks for the failure.
            self.reader.panicked();
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}
