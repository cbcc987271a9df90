//! What a call sends.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Poll, ready},
};

use bytes::Bytes;
use h2::SendStream;
use http_body::{Body, Frame};
use registry::Cause;
use tokio_util::task::AbortOnDropHandle;

use crate::status::{Code, Status};

/// What a call sends: known whole before it is sent, as a unary request is, or as it comes.
pub(crate) enum RequestBody<B> {
    /// All of it; can be sent again.
    Whole(Bytes),
    /// The beginning, and where the rest comes from.
    Streaming { begun: Begun, rest: Pin<Box<B>> },
    /// A stream that has been given to an attempt; it cannot be given to another.
    Spent,
}

/// The frames that were there at once.
pub(crate) type Begun = [Option<Frame<Bytes>>; 2];

/// Keeps the task that sends a stream; dropping it ends the task.
pub(crate) type Upload = Option<AbortOnDropHandle<()>>;

impl<B> RequestBody<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Cause>,
{
    /// Looks whether the body is there at once, without waiting for any of it: a unary request is one frame and the end;
    /// what has two frames ready streams.
    pub(crate) async fn prepare(body: B) -> Result<Self, Status> {
        let mut rest = Box::pin(body);
        let first = match poll_now(&mut rest).await {
            Poll::Ready(Some(frame)) => frame.map_err(failed)?,
            Poll::Ready(None) => return Ok(Self::Whole(Bytes::new())),
            Poll::Pending => {
                return Ok(Self::Streaming {
                    begun: [None, None],
                    rest,
                });
            }
        };
        let second = match poll_now(&mut rest).await {
            Poll::Ready(Some(frame)) => Some(frame.map_err(failed)?),
            Poll::Ready(None) if first.is_data() => {
                return Ok(Self::Whole(first.into_data().unwrap_or_default()));
            }
            Poll::Ready(None) | Poll::Pending => None,
        };
        Ok(Self::Streaming {
            begun: [Some(first), second],
            rest,
        })
    }

    /// Whether another attempt could send it after this one has.
    pub(crate) fn is_replayable(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// Sends it on a stream that has just been opened.
    ///
    /// What is whole goes to h2 at once, which holds it (a reference) until flow control lets it leave.
    pub(crate) fn send(&mut self, mut stream: SendStream<Bytes>) -> Result<Upload, h2::Error> {
        match std::mem::replace(self, Self::Spent) {
            Self::Whole(data) => {
                stream.send_data(data.clone(), true)?;
                *self = Self::Whole(data);
                Ok(None)
            }
            Self::Streaming { begun, rest } => Ok(Some(AbortOnDropHandle::new(tokio::spawn(
                upload(begun, rest, stream),
            )))),
            Self::Spent => unreachable!("only a replayable body is sent twice"),
        }
    }
}

async fn poll_now<B: Body>(
    body: &mut Pin<Box<B>>,
) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
    poll_fn(|cx| Poll::Ready(body.as_mut().poll_frame(cx))).await
}

fn failed(error: impl Into<Cause>) -> Status {
    Status::new(
        Code::Internal,
        format!(
            "the request could not be produced: {}",
            registry::one_line(&*error.into())
        ),
    )
}

/// Sends a stream as it comes and as flow control lets it, until its end or the call's.
async fn upload<B>(begun: Begun, mut rest: Pin<Box<B>>, mut stream: SendStream<Bytes>)
where
    B: Body<Data = Bytes>,
    B::Error: Into<Cause>,
{
    for frame in begun.into_iter().flatten() {
        if send_frame(frame, &mut stream).await.is_none() {
            return;
        }
    }
    loop {
        let next: Option<Option<Result<_, Cause>>> = poll_fn(|cx| {
            // The server may end the call before it has read the whole request.
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            // The error is made one that can cross threads at once.
            rest.as_mut()
                .poll_frame(cx)
                .map(|frame| Some(frame.map(|frame| frame.map_err(Into::into))))
        })
        .await;
        match next {
            None => return,
            Some(Some(Ok(frame))) => {
                if send_frame(frame, &mut stream).await.is_none() {
                    return;
                }
            }
            Some(Some(Err(error))) => {
                tracing::debug!(
                    cause = registry::one_line(&*error),
                    "a request stream failed; cancelling its call"
                );
                stream.send_reset(h2::Reason::CANCEL);
                return;
            }
            Some(None) => {
                // An error means that the stream is over, which its reader sees.
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
        }
    }
}

/// Sends one frame; `None` when the stream takes no more.
async fn send_frame(frame: Frame<Bytes>, stream: &mut SendStream<Bytes>) -> Option<()> {
    match frame.into_data() {
        Ok(mut data) => {
            while !data.is_empty() {
                stream.reserve_capacity(data.len());
                let capacity = capacity(stream).await?;
                stream
                    .send_data(data.split_to(capacity.min(data.len())), false)
                    .ok()?;
            }
            Some(())
        }
        Err(frame) => stream
            .send_trailers(frame.into_trailers().unwrap_or_default())
            .ok(),
    }
}

/// Waits until something can be sent; `None` when the stream is over.
async fn capacity(stream: &mut SendStream<Bytes>) -> Option<usize> {
    poll_fn(|cx| {
        loop {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(capacity)) => return Poll::Ready(Some(capacity)),
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
    })
    .await
}
