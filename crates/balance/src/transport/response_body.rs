//! What a call receives.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{Deadline, Upload, connection::StreamSlot};
use crate::{
    endpoint::InFlight,
    status::{Code, Status},
};

/// The body of a response: the messages, then trailers that tell the status.
///
/// It never fails: whatever ends the call is told in the trailers. Dropping it cancels what is left of the call.
#[derive(Default)]
pub struct ResponseBody(Option<Box<Receiving>>);

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ResponseBody")
            .field(&self.0.as_ref().map(|receiving| &receiving.peer))
            .finish()
    }
}

/// A response that is under way.
pub(crate) struct Receiving {
    pub(crate) stream: RecvStream,
    pub(crate) peer: std::sync::Arc<str>,
    /// Whether the status was in the headers: then no trailers are to come.
    pub(crate) trailers_only: bool,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) _held: Held,
}

/// What a call holds until it ends; only its drop matters.
pub(crate) struct Held {
    pub(crate) _upload: Upload,
    pub(crate) _slot: StreamSlot,
    pub(crate) _in_flight: InFlight,
}

impl ResponseBody {
    pub(crate) fn new(receiving: Receiving) -> Self {
        Self(Some(Box::new(receiving)))
    }
}

impl Receiving {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        // First, or a stream that always has data would outlive its deadline.
        if let Some(deadline) = &mut self.deadline
            && deadline.poll_expired(cx).is_ready()
        {
            let message = format!(
                "{}: the response did not end within {:?}",
                self.peer,
                deadline.timeout()
            );
            return Poll::Ready(Next::End(Some(
                Status::new(Code::DeadlineExceeded, message).to_trailers(),
            )));
        }
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // The reader has taken it: the server may send as much again.
                let _ = self.stream.flow_control().release_capacity(data.len());
                Poll::Ready(Next::Data(data))
            }
            Some(Err(error)) => Poll::Ready(Next::End(Some(self.broken(&error)))),
            None => self.poll_trailers(cx),
        }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        Poll::Ready(Next::End(match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Some(trailers),
            Ok(None) if self.trailers_only => None,
            Ok(None) => {
                let message = format!("{}: the stream ended without a status", self.peer);
                Some(Status::new(Code::Internal, message).to_trailers())
            }
            Err(error) => Some(self.broken(&error)),
        }))
    }

    fn broken(&self, error: &h2::Error) -> HeaderMap {
        Status::from_h2(&self.peer, error).to_trailers()
    }
}

enum Next {
    Data(Bytes),
    End(Option<HeaderMap>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(receiving) = &mut self.0 else {
            return Poll::Ready(None);
        };
        Poll::Ready(match ready!(receiving.poll_next(cx)) {
            Next::Data(data) => Some(Ok(Frame::data(data))),
            Next::End(trailers) => {
                // Whatever the call holds is given back now, even when its reader keeps the body.
                self.0 = None;
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|receiving| receiving.trailers_only && receiving.stream.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.0.is_none() {
            SizeHint::with_exact(0)
        } else {
            SizeHint::default()
        }
    }
}
