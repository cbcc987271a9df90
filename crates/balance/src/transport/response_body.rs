//! What a call receives.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{
    Deadline,
    bounded::Bounded,
    receiving::{Next, Receiving},
};

/// The body of a response: the messages, then trailers that tell the status.
///
/// It never fails: whatever ends the call is told in the trailers. Dropping it cancels what is left of the call, and so
/// does the call's deadline, even when nobody reads.
#[derive(Default)]
pub struct ResponseBody(Option<Arc<Bounded>>);

impl ResponseBody {
    pub(crate) fn new(receiving: Receiving, deadline: Option<Deadline>) -> Self {
        Self(Some(Bounded::new(receiving, deadline)))
    }

    fn end(&mut self) {
        if let Some(response) = self.0.take() {
            response.close();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(response) = &self.0 else {
            return Poll::Ready(None);
        };
        Poll::Ready(match ready!(response.poll_next(cx)) {
            Next::Data(data) => Some(Ok(Frame::data(data))),
            Next::End(trailers) => {
                // Whatever the call holds is given back now, even when its reader keeps the body.
                self.end();
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|response| response.is_end())
    }

    fn size_hint(&self) -> SizeHint {
        if self.0.is_none() {
            SizeHint::with_exact(0)
        } else {
            SizeHint::default()
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("ended", &self.0.is_none())
            .finish()
    }
}
