//! A response that ends at its deadline, whether or not anybody reads it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::{
    Deadline,
    receiving::{Next, Receiving},
};
use crate::status::{Code, Status};

/// A response and its deadline. The timer wakes this and not the reader, so that what the call holds is given back in time
/// even when its reader has forgotten it.
///
/// The timer holds this, and this holds the timer: [`close`](Self::close) parts them.
pub(super) struct Bounded {
    state: Mutex<State>,
    timeout: Duration,
}

#[derive(Default)]
struct State {
    receiving: Option<Receiving>,
    /// What there is to say when the deadline has passed.
    too_late: Option<Status>,
    deadline: Option<Deadline>,
    reader: Option<Waker>,
}

impl Bounded {
    pub(super) fn new(receiving: Receiving, deadline: Option<Deadline>) -> Arc<Self> {
        let timeout = deadline.as_ref().map(|deadline| deadline.timeout().total());
        let state = State {
            receiving: Some(receiving),
            ..State::default()
        };
        let this = Arc::new(Self {
            state: Mutex::new(state),
            timeout: timeout.unwrap_or_default(),
        });
        if let Some(mut deadline) = deadline {
            let waker = Waker::from(Arc::clone(&this));
            // Without our lock: a timer may call its waker at once.
            if deadline
                .poll_expired(&mut Context::from_waker(&waker))
                .is_ready()
            {
                this.expire();
            }
            this.state().deadline = Some(deadline);
        }
        this
    }

    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.state();
        let state = &mut *state;
        let Some(receiving) = &mut state.receiving else {
            let too_late = state.too_late.as_ref().map(Status::to_trailers);
            return Poll::Ready(Next::End(too_late));
        };
        let next = receiving.poll_next(cx);
        if next.is_pending() {
            state.reader = Some(cx.waker().clone());
        }
        next
    }

    /// Whether nothing more comes, as far as is known without reading.
    pub(super) fn is_end(&self) -> bool {
        self.state()
            .receiving
            .as_ref()
            .is_some_and(Receiving::is_end)
    }

    /// Gives back whatever the call holds; what is left of it is cancelled.
    pub(super) fn close(&self) {
        // Dropped without our lock: the timer and h2 have locks of their own.
        drop(std::mem::take(&mut *self.state()));
    }

    fn expire(&self) {
        let (receiving, reader) = {
            let mut state = self.state();
            let receiving = state.receiving.take();
            state.too_late = receiving.as_ref().map(|r| self.too_late(r.held.peer()));
            (receiving, state.reader.take())
        };
        drop(receiving);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn too_late(&self, peer: &str) -> Status {
        let message = format!("{peer}: the response did not end within {:?}", self.timeout);
        Status::new(Code::DeadlineExceeded, message)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bounded {
    fn wake(self: Arc<Self>) {
        self.expire();
    }
}
