//! When a call is over, whatever comes of it: one timer for the whole of it, response body included.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::unconstrained,
    time::{Sleep, sleep_until},
};

use super::Timeout;

/// The moment that a call is over.
#[derive(Debug)]
pub(crate) struct Deadline {
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
}

/// The deadline has passed.
#[derive(Debug)]
pub(crate) struct Expired;

impl Deadline {
    /// The end of a call that may take so long.
    pub(crate) fn new(timeout: &Timeout) -> Self {
        Self {
            timeout: timeout.total(),
            sleep: Box::pin(sleep_until(timeout.until())),
        }
    }

    /// How long the call was given.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        self.sleep.as_mut().poll(cx).map(|()| Expired)
    }

    /// The same outside of tokio's budget for a task: the waker is called when the deadline has passed, and only then.
    pub(super) fn poll_expired_at_any_cost(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        pin!(unconstrained(poll_fn(|cx| self.poll_expired(cx)))).poll(cx)
    }

    /// Runs `future` until it ends or the deadline passes.
    pub(crate) async fn bound<F: Future>(
        deadline: Option<&mut Self>,
        future: F,
    ) -> Result<F::Output, Expired> {
        let Some(deadline) = deadline else {
            return Ok(future.await);
        };
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => deadline.poll_expired(cx).map(Err),
        })
        .await
    }
}
