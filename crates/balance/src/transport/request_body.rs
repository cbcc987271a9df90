//! What a call sends.

mod replay;
mod upload;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::SendStream;
use http_body::{Body, Frame};
use registry::Cause;
use tokio_util::task::AbortOnDropHandle;

use self::{
    replay::{Failing, Replay},
    upload::upload,
};
use super::{MessageLimit, message_limit::TooLarge};
use crate::{
    status::{Code, Status},
    telemetry::MeasuredAttempt,
};

/// How much of a stream is kept for further attempts unless something else is asked for, in bytes.
pub(crate) const REPLAY_BUFFER: usize = 256 << 10;

/// What a call sends: known whole before it is sent, as a unary request is, or as it comes.
///
/// Any attempt sends it from its beginning, also while others do, until the call is committed to one of them.
pub(crate) enum RequestBody<B> {
    /// All of it.
    Whole(Bytes),
    /// A stream, recorded as it is sent.
    Streaming(Arc<Replay<B>>),
}

impl<B> RequestBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Cause>,
{
    /// Looks whether the body is there at once, without waiting for any of it: a unary request is one frame and the end;
    /// what has two frames ready streams.
    ///
    /// Of a stream, `buffer` bytes are kept for further attempts; with 0 there is none. A message that `messages` refuses
    /// fails the call with `RESOURCE_EXHAUSTED`, and a body that fails with INTERNAL.
    pub(crate) fn prepare(
        mut body: B,
        buffer: usize,
        mut messages: Option<MessageLimit>,
    ) -> Result<Self, Status> {
        let first = poll_now(&mut body)?;
        let second = match &first {
            Poll::Ready(Some(_)) => poll_now(&mut body)?,
            _ => Poll::Pending,
        };
        let data = match (first, second) {
            (Poll::Ready(None), _) => Bytes::new(),
            (Poll::Ready(Some(frame)), Poll::Ready(None)) if frame.is_data() => {
                frame.into_data().unwrap_or_default()
            }
            (first, second) => {
                let begun = [first, second]
                    .into_iter()
                    .filter_map(|polled| match polled {
                        Poll::Ready(frame) => Some(frame),
                        Poll::Pending => None,
                    });
                return Replay::new(body, begun, buffer, messages)
                    .map(|replay| Self::Streaming(Arc::new(replay)));
            }
        };
        if let Some(limit) = &mut messages {
            limit.follow(&data).map_err(TooLarge::in_request)?;
        }
        Ok(Self::Whole(data))
    }

    /// Whether an attempt that is yet to come could send it: it is not committed, by itself neither, and has not failed.
    pub(crate) fn is_replayable(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Streaming(replay) => replay.is_replayable(),
        }
    }

    /// Sends it from its beginning on a stream that has just been opened. `attempt` is this attempt's alone. Whoever sends
    /// it by and by keeps `place` until the stream is given back to h2.
    ///
    /// What is whole goes to h2 at once, which holds it (a reference) until flow control lets it leave. Of a stream no more
    /// goes to h2 than flow control lets leave. It ends with the upload that is returned, and when the server ends the
    /// call; when the request fails, or the call is committed to another attempt, the stream is reset (CANCEL). What goes to
    /// h2 is told to `measured`.
    pub(super) fn send<P: Send + 'static>(
        &self,
        mut stream: SendStream<Bytes>,
        attempt: u32,
        measured: &mut MeasuredAttempt,
        place: impl FnOnce() -> P,
    ) -> Result<Upload, h2::Error> {
        match self {
            Self::Whole(data) => {
                measured.sent(data);
                stream.send_data(data.clone(), true)?;
                Ok(Upload(None))
            }
            Self::Streaming(replay) => {
                let held = Arc::new(());
                let reader = Replay::read(replay, attempt, &held);
                Ok(Upload(Some(Streaming {
                    _held: held,
                    task: AbortOnDropHandle::new(tokio::spawn(upload(
                        reader,
                        stream,
                        measured.sending(),
                        place(),
                    ))),
                    body: Arc::clone(replay) as Arc<dyn Failing>,
                })))
            }
        }
    }

    /// Commits the call to an attempt, and tells whether it is that one's: a stream that outgrew its buffer is committed
    /// already, to the attempt that had read furthest.
    ///
    /// From then on nothing is recorded, what that attempt has sent is freed, and the uploads of the others end.
    pub(crate) fn commit(&self, attempt: u32) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Streaming(replay) => replay.commit(attempt),
        }
    }

    /// The attempt that the call is committed to.
    pub(crate) fn winner(&self) -> Option<u32> {
        match self {
            Self::Whole(_) => None,
            Self::Streaming(replay) => replay.winner(),
        }
    }

    /// Why there is no whole request, where that is so; it is what the caller is to be told, whatever came of the attempts.
    pub(crate) fn failure(&self) -> Option<Status> {
        match self {
            Self::Whole(_) => None,
            Self::Streaming(replay) => replay.failure(),
        }
    }
}

/// One attempt's sending of a request; dropping it ends it, and from then on the call is not committed to it by itself.
pub(crate) struct Upload(Option<Streaming>);

struct Streaming {
    /// Lets the reader know that its attempt goes on.
    _held: Arc<()>,
    #[cfg_attr(not(test), expect(dead_code, reason = "only its drop matters"))]
    task: AbortOnDropHandle<()>,
    body: Arc<dyn Failing>,
}

impl Upload {
    /// Why there is no whole request, where that is so.
    pub(super) fn failure(&self) -> Option<Status> {
        self.0.as_ref()?.body.failure()
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("streams", &self.0.is_some())
            .finish()
    }
}

/// What is there at once. Nobody is woken for what is not: whoever uploads asks again.
fn poll_now<B>(body: &mut B) -> Result<Poll<Option<Frame<Bytes>>>, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Cause>,
{
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(frame)) => frame.map(|frame| Poll::Ready(Some(frame))).map_err(failed),
        Poll::Ready(None) => Ok(Poll::Ready(None)),
        Poll::Pending => Ok(Poll::Pending),
    }
}

fn failed(error: impl Into<Cause>) -> Status {
    not_produced(&registry::one_line(&*error.into()))
}

fn not_produced(cause: &str) -> Status {
    Status::new(
        Code::Internal,
        format!("the request could not be produced: {cause}"),
    )
}

#[cfg(test)]
mod tests;
