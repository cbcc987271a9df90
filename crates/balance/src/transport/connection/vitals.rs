//! What a connection's users and its task tell one another.

use std::{
    pin::pin,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::Context,
};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

/// Whether a connection is worth a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Availability {
    /// It takes calls.
    Open,
    /// A call's deadline passed in silence and a PING is under way, for less than 250 ms: others are better.
    Suspected,
    /// The PING has not been answered for 250 ms: not to be picked until it is.
    Silent,
    /// It takes no new streams any more: it is closed, or was told to go away.
    Closed,
}

impl Availability {
    const ALL: [Self; 4] = [Self::Open, Self::Suspected, Self::Silent, Self::Closed];
}

/// Asked for each pick, so it is an atomic and no lock.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    availability: AtomicU8,
    changed: Notify,
    suspected: AtomicBool,
    abandoned: AtomicBool,
    task: AtomicWaker,
    /// Why the connection ended, by whoever was first to know.
    ended: OnceLock<&'static str>,
}

impl Vitals {
    pub(super) fn availability(&self) -> Availability {
        Availability::ALL[usize::from(self.availability.load(Ordering::Acquire))]
    }

    pub(super) fn why_ended(&self) -> Option<&'static str> {
        self.ended.get().copied()
    }

    /// The connection ends, and that is why. To be said before it is [`Closed`](Availability::Closed).
    pub(super) fn ended(&self, why: &'static str) {
        let _first_counts = self.ended.set(why);
    }

    /// Takes up `next`, unless the connection is closed, which is for good.
    pub(super) fn set(&self, next: Availability) {
        const CLOSED: u8 = Availability::Closed as u8;
        let next = next as u8;
        let step = |now| (now != CLOSED && now != next).then_some(next);
        let changed = self
            .availability
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
        if changed.is_ok() {
            self.changed.notify_waiters();
        }
    }

    /// Takes up `next` in place of `before`, if it is that.
    pub(super) fn set_if(&self, before: Availability, next: Availability) {
        let (before, next) = (before as u8, next as u8);
        let changed =
            self.availability
                .compare_exchange(before, next, Ordering::AcqRel, Ordering::Acquire);
        if changed.is_ok() {
            self.changed.notify_waiters();
        }
    }

    /// Waits until `is_so` of the availability. Cancellation safe.
    pub(super) async fn until(&self, is_so: impl Fn(Availability) -> bool) -> Availability {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.availability();
            if is_so(now) {
                return now;
            }
            changed.await;
        }
    }

    /// Tells the task that a call has ended in silence.
    pub(super) fn suspect(&self) {
        self.suspected.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Tells the task that nobody uses the connection any more. h2 does not, while it can write nothing.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.task.wake();
    }

    /// To be asked after [`take_suspicion`](Self::take_suspicion), which sees to it that the task is woken.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Whether a call has ended in silence since this was asked last; wakes the task of `cx` when one does.
    pub(super) fn take_suspicion(&self, cx: &Context<'_>) -> bool {
        self.task.register(cx.waker());
        self.suspected.load(Ordering::Acquire) && self.suspected.swap(false, Ordering::AcqRel)
    }
}

/// Tells the end however the driving task ends.
pub(super) struct CloseOnDrop(pub(super) std::sync::Arc<Vitals>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.set(Availability::Closed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::{Availability, Vitals};

    #[test]
    fn closed_is_for_good_and_no_change_is_missed() {
        let vitals = Vitals::default();
        let mut changed = Box::pin(vitals.until(|now| now != Availability::Open));
        assert_eq!(changed.as_mut().now_or_never(), None);
        vitals.set(Availability::Silent);
        assert_eq!(changed.now_or_never(), Some(Availability::Silent));
        vitals.set(Availability::Closed);
        vitals.set(Availability::Open);
        assert_eq!(vitals.availability(), Availability::Closed);
        // One that begins to wait after the change has nothing to wait for.
        let changed = vitals.until(|now| now != Availability::Silent);
        assert_eq!(changed.now_or_never(), Some(Availability::Closed));
    }
}
