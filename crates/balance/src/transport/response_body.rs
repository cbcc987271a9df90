//! What a call receives.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A call whose response has begun.
pub(crate) trait Answering: Send + Sync {
    /// What comes next of the response. After trailers and after the end it holds nothing more.
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>>;

    /// Whether nothing more comes, as far as is known without reading.
    fn is_end(&self) -> bool;

    /// Gives back whatever it holds; what is left of the call is cancelled.
    fn close(&self);
}

/// The body of a response: the messages, then trailers that tell the status.
///
/// It never fails: whatever ends the call is told in the trailers. Dropping it cancels what is left of the call, and so
/// does the call's deadline, even when nobody reads.
#[derive(Default)]
pub struct ResponseBody(Option<Arc<dyn Answering>>);

impl ResponseBody {
    pub(crate) fn new(call: Arc<dyn Answering>) -> Self {
        Self(Some(call))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(call) = &self.0 else {
            return Poll::Ready(None);
        };
        let polled = call.poll_frame(cx);
        if let Poll::Ready(frame) = &polled
            && !matches!(frame, Some(Ok(frame)) if frame.is_data())
        {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|call| call.is_end())
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
        if let Some(call) = &self.0 {
            call.close();
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("ended", &self.0.is_none())
            .finish()
    }
}
