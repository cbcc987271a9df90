//! A call on its stream: until its response begins, and then until that ends.

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker, ready},
};

use bytes::Bytes;
use h2::client;
use http_body::{Body, Frame};
use registry::Cause;

use super::{
    admission::Admitted,
    call::{Pending, Progress},
    outcome::{Answer, Responded, Unsettled, cut_off, settle},
};
use crate::{
    status::{Code, Status},
    telemetry::MeasuredCall,
    transport::{Answering, Deadline, Held, Next, Receiving, ResponseBody},
};

/// A call whose request has been sent, in one place of memory for as long as it lasts.
///
/// Its deadline wakes this and not the caller, so that what the call holds is given back in time even when its caller has
/// forgotten it. The timer holds this, and this holds the timer: [`close`](Answering::close) parts them.
pub(super) struct Exchange<B>(Mutex<State<B>>);

/// The C library's allocator has blocks at hand that are smaller than a KiB, its own words included; for larger ones a call costs
/// hundreds of instructions more.
const _: () = assert!(size_of::<Exchange<()>>() + 2 * size_of::<usize>() <= 1_000);

/// What is given back is given back in this order: the stream's slot is free only when h2 is done with it.
pub(super) struct State<B> {
    pub(super) awaited: Awaited,
    pub(super) held: Option<Held>,
    /// After what is held: a call ends with its attempt, and not before it.
    pub(super) progress: Progress,
    pub(super) admitted: Option<Admitted>,
    /// What another attempt needs, until the call is committed to this one.
    pub(super) pending: Option<Pending<B>>,
    deadline: Option<Deadline>,
    caller: Option<Waker>,
}

/// What the caller waits for.
pub(super) enum Awaited {
    Response(client::ResponseFuture),
    /// An answer that the call is committed to only once it is whole.
    Whole(Box<Responded>),
    Rest(Receiving),
    Nothing,
    /// The deadline has passed, and the caller does not know yet.
    TooLate(Status),
}

/// A call that is not to be committed to what came.
pub(super) struct Unfinished<B> {
    pub(super) pending: Pending<B>,
    pub(super) progress: Progress,
    pub(super) admitted: Admitted,
    pub(super) deadline: Option<Deadline>,
    pub(super) unsettled: Unsettled,
    pub(super) held: Held,
}

/// What the caller gets.
pub(super) enum Begun<B> {
    Response(http::Response<ResponseBody>),
    Unfinished(Box<Unfinished<B>>),
}

impl<B: Send + 'static> Exchange<B> {
    /// What is in one that nobody else has yet. A call is made in it: it is too large to be moved for nothing.
    #[inline]
    pub(super) fn fresh(this: &mut Arc<Self>) -> &mut State<B> {
        let this = Arc::get_mut(this).expect("nobody else has it");
        this.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is over when the deadline passes.
    pub(super) fn until(self: &Arc<Self>, deadline: Option<Deadline>) {
        let Some(mut deadline) = deadline else { return };
        let mut state = self.state();
        let waker = Waker::from(Arc::clone(self));
        let passed = deadline.poll_expired(&mut Context::from_waker(&waker));
        state.deadline = Some(deadline);
        drop(state);
        if passed.is_ready() {
            self.expire();
        }
    }

    fn expire(&self) {
        let (gone, caller) = {
            let mut state = self.state();
            let missing = match &state.awaited {
                Awaited::Response(_) => "come",
                Awaited::Whole(_) | Awaited::Rest(_) => "end",
                Awaited::Nothing | Awaited::TooLate(_) => return,
            };
            let held = state.held.as_ref();
            let peer = held.map_or("", Held::peer);
            let total = held.and_then(Held::given).unwrap_or_default();
            let message = format!("{peer}: the response did not {missing} within {total:?}");
            let too_late = Status::new(Code::DeadlineExceeded, message);
            let caller = state.caller.take();
            let left = State {
                awaited: Awaited::TooLate(too_late),
                ..State::default()
            };
            (mem::replace(&mut *state, left), caller)
        };
        // After all that the call held is given back, and also when that panics.
        let _told = Told(caller);
        // Without our lock: a request may be dropped here that is its caller's.
        drop(gone);
    }
}

impl<B> Exchange<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Cause>,
{
    /// The call is committed to this answer.
    pub(super) fn answered(
        answer: Answer,
        pending: &Pending<B>,
        mut progress: Progress,
        admitted: Admitted,
        deadline: Option<Deadline>,
    ) -> http::Response<ResponseBody> {
        let Answer {
            responded: Responded { mut parts, rest },
            mut held,
            ..
        } = answer;
        pending.commit(&mut progress, &mut held, &mut parts.extensions);
        let mut this = Arc::<Self>::default();
        let state = Self::fresh(&mut this);
        state.awaited = Awaited::Rest(rest);
        state.held = Some(held);
        state.progress = progress;
        state.admitted = Some(admitted);
        this.until(deadline);
        http::Response::from_parts(parts, ResponseBody::new(this))
    }

    /// Waits for the response, and commits the call to it when it is one: then its body has taken over the exchange.
    pub(super) fn poll_response(
        this: &mut Option<Arc<Self>>,
        cx: &mut Context<'_>,
    ) -> Poll<Begun<B>> {
        let Some(exchange) = this else {
            return Poll::Pending;
        };
        let mut state = exchange.state();
        if let Awaited::TooLate(status) = &state.awaited {
            return Poll::Ready(Begun::Response(status.to_response()));
        }
        let Responded { mut parts, rest } = match state.poll_responded(cx) {
            Poll::Ready(Ok(responded)) => responded,
            Poll::Ready(Err(unsettled)) => {
                let unfinished = state.leave(*unsettled);
                return Poll::Ready(Begun::Unfinished(Box::new(unfinished)));
            }
            Poll::Pending => {
                state.wait(cx);
                return Poll::Pending;
            }
        };
        let State {
            held,
            pending,
            progress,
            ..
        } = &mut *state;
        if let (Some(held), Some(uncommitted)) = (held, pending.take()) {
            uncommitted.body.commit(progress.sendings());
            uncommitted.commit(progress, held, &mut parts.extensions);
        }
        state.awaited = Awaited::Rest(rest);
        drop(state);
        let body = this
            .take()
            .map(|this| ResponseBody::new(this as Arc<dyn Answering>));
        let response = http::Response::from_parts(parts, body.unwrap_or_default());
        Poll::Ready(Begun::Response(response))
    }
}

impl<B> State<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Cause>,
{
    /// Waits for what the call is to be committed to, or for why it is not.
    fn poll_responded(&mut self, cx: &mut Context<'_>) -> Poll<Result<Responded, Box<Unsettled>>> {
        let (Some(held), Some(pending)) = (&mut self.held, &self.pending) else {
            return Poll::Pending;
        };
        let call = &pending.call;
        let unsent = || pending.body.failure();
        let cut_off = |held: &mut Held, error| Err(Box::new(cut_off(held, &error, unsent())));
        let mut responded = match &mut self.awaited {
            Awaited::Response(response) => {
                let response = ready!(Pin::new(response).poll(cx));
                settle(response, held, call.response_limit(), unsent)?
            }
            Awaited::Whole(responded) => {
                if let Err(error) = ready!(responded.poll_whole(cx)) {
                    return Poll::Ready(cut_off(held, error));
                }
                let Awaited::Whole(responded) = mem::replace(&mut self.awaited, Awaited::Nothing)
                else {
                    unreachable!("it was just asked");
                };
                return Poll::Ready(Ok(*responded));
            }
            Awaited::Rest(_) | Awaited::Nothing | Awaited::TooLate(_) => return Poll::Pending,
        };
        if !call.is_repeated() {
            return Poll::Ready(Ok(responded));
        }
        // Whatever has come is read; that this is not all is rare enough to ask then whether the rest is to be waited for.
        match responded.poll_whole(cx) {
            Poll::Ready(Err(error)) if pending.waits_for_whole() => {
                Poll::Ready(cut_off(held, error))
            }
            Poll::Pending if pending.waits_for_whole() => {
                self.awaited = Awaited::Whole(Box::new(responded));
                Poll::Pending
            }
            _ => Poll::Ready(Ok(responded)),
        }
    }
}

impl<B> Exchange<B> {
    fn state(&self) -> MutexGuard<'_, State<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> State<B> {
    /// Whoever asks is told when the deadline has passed; of all else h2 tells it.
    fn wait(&mut self, cx: &Context<'_>) {
        if self.deadline.is_none() {
            return;
        }
        match &mut self.caller {
            Some(caller) => caller.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Gives back all but what a caller has brought. The locks of h2 and of the timers are never held where ours is asked
    /// for.
    fn close(&mut self) {
        self.awaited = Awaited::Nothing;
        if let Some(held) = &mut self.held {
            self.progress.measured.ends_as(held.measured());
        }
        self.held = None;
        self.progress.measured = MeasuredCall::default();
        self.admitted = None;
        self.deadline = None;
        self.caller = None;
    }

    /// What attempts are made of, of a call that is not committed to one.
    pub(super) fn take(&mut self) -> (Pending<B>, Progress, Admitted) {
        let (Some(pending), Some(admitted)) = (self.pending.take(), self.admitted.take()) else {
            unreachable!("until it is committed it can make another attempt");
        };
        (pending, mem::take(&mut self.progress), admitted)
    }

    /// What came is nothing to commit to.
    fn leave(&mut self, unsettled: Unsettled) -> Unfinished<B> {
        let mut left = mem::take(self);
        let (pending, progress, admitted) = left.take();
        let Some(held) = left.held else {
            unreachable!("who waits for a response has a stream");
        };
        Unfinished {
            pending,
            progress,
            admitted,
            deadline: left.deadline,
            unsettled,
            held,
        }
    }
}

/// Wakes a caller when it is dropped.
struct Told(Option<Waker>);

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(caller) = self.0.take() {
            caller.wake();
        }
    }
}

impl<B> Default for Exchange<B> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<B> Default for State<B> {
    fn default() -> Self {
        Self {
            awaited: Awaited::Nothing,
            held: None,
            progress: Progress::default(),
            admitted: None,
            pending: None,
            deadline: None,
            caller: None,
        }
    }
}

impl<B: Send + 'static> Answering for Exchange<B> {
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.state();
        let state = &mut *state;
        let trailers = match (&mut state.awaited, &mut state.held) {
            (Awaited::Rest(receiving), Some(held)) => match receiving.poll_next(held, cx) {
                Poll::Ready(Next::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Poll::Ready(Next::End(trailers)) => trailers,
                Poll::Pending => {
                    state.wait(cx);
                    return Poll::Pending;
                }
            },
            (Awaited::TooLate(status), _) => Some(status.to_trailers()),
            _ => None,
        };
        // Whatever the call holds is given back now, even when its reader keeps the body.
        state.close();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end(&self) -> bool {
        match &self.state().awaited {
            Awaited::Rest(receiving) => receiving.is_end(),
            _ => false,
        }
    }

    fn close(&self) {
        let mut state = self.state();
        state.close();
        if state.pending.is_none() {
            return;
        }
        let pending = state.pending.take();
        drop(state);
        // Without our lock: the request is its caller's.
        drop(pending);
    }
}

impl<B: Send + 'static> Wake for Exchange<B> {
    fn wake(self: Arc<Self>) {
        self.expire();
    }
}
