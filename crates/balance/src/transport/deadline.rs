//! When a call is over, whatever comes of it: one timer for the whole of it, response body included.

use std::{
    future::poll_fn,
    mem,
    pin::pin,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::{
    Timeout,
    deadlines::{Deadlines, Expire, Key},
};

/// Whoever is to be woken when a deadline has passed.
pub(crate) type Timers = Deadlines<Waker>;

impl Expire for Waker {
    fn expire(self) {
        self.wake();
    }
}

/// The moment that a call is over.
#[derive(Debug)]
pub(crate) struct Deadline {
    until: Instant,
    timers: Timers,
    /// Whom it wakes; from when it was first asked.
    key: Option<Key>,
}

/// The deadline has passed.
#[derive(Debug)]
pub(crate) struct Expired;

impl Deadline {
    /// The end of a call that may take so long.
    pub(crate) fn new(timeout: &Timeout, timers: &Timers) -> Self {
        Self {
            until: timeout.until(),
            timers: timers.clone(),
            key: None,
        }
    }

    /// The waker is called when the deadline has passed, and only then.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        let Some(key) = self.key else {
            self.key = Some(self.timers.insert(self.until, cx.waker().clone()));
            return Poll::Pending;
        };
        let renew = |before: &mut Waker| {
            (!before.will_wake(cx.waker())).then(|| mem::replace(before, cx.waker().clone()))
        };
        // A waker that is replaced is dropped here, where the timers are not locked: it may be the last of a task.
        match self.timers.update(key, renew) {
            Some(_replaced) => Poll::Pending,
            None => Poll::Ready(Expired),
        }
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

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.timers.remove(key);
        }
    }
}
