//! Which calls are let in, and how many there are: the budget of calls in flight, and the end of the channel.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::{
    options::Priority,
    status::{Code, ErrorInfo, Status},
};

/// Counts the calls of a channel.
#[derive(Debug)]
pub(super) struct Admission {
    in_flight: AtomicUsize,
    budget: usize,
    closing: AtomicBool,
    /// Told when a call ends while the channel closes.
    ended: Notify,
}

/// A call that was let in, for as long as it lasts. Not `Clone`: it is counted down once.
#[derive(Debug)]
pub(crate) struct Admitted(Arc<Admission>);

impl Admission {
    /// Lets in as many calls at a time as `budget` says.
    pub(super) fn new(budget: Option<usize>) -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            budget: budget.unwrap_or(usize::MAX),
            closing: AtomicBool::new(false),
            ended: Notify::new(),
        }
    }

    /// Calls that were let in and have not ended.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Lets a call in, or says why not.
    pub(super) fn enter(self: &Arc<Self>, priority: Priority) -> Result<Admitted, Status> {
        let in_flight = self.in_flight.fetch_add(1, Ordering::AcqRel);
        let admitted = Admitted(Arc::clone(self));
        if self.is_closing() {
            return Err(Status::unavailable("the channel was closed"));
        }
        if in_flight >= priority.share_of(self.budget) {
            return Err(self.exhausted(priority));
        }
        Ok(admitted)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Lets no call in any more.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Waits until the channel closes and its last call has ended. Cancellation safe.
    pub(super) async fn closed(&self) {
        loop {
            let ended = self.ended.notified();
            if self.is_closing() && self.in_flight.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }

    fn exhausted(&self, priority: Priority) -> Status {
        let share = priority.share_of(self.budget);
        let message = format!(
            "{share} calls are in flight, as many as a budget of {} allows for calls of {priority} priority",
            self.budget
        );
        Status::new(Code::ResourceExhausted, message).with_details(ErrorInfo {
            reason: "CALLS_IN_FLIGHT_EXHAUSTED",
            metadata: &[("budget", self.budget), ("share", share)],
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
        if self.0.is_closing() {
            self.0.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, Arc, Code, Priority};

    #[test]
    fn a_tenth_of_a_budget_is_kept_for_high_priority_and_half_is_kept_from_low() {
        let admission = Arc::new(Admission::new(Some(10)));
        let mut held = Vec::new();
        let mut fill = |priority| {
            while let Ok(admitted) = admission.enter(priority) {
                held.push(admitted);
            }
            held.len()
        };
        assert_eq!(fill(Priority::Low), 5);
        assert_eq!(fill(Priority::Normal), 9);
        assert_eq!(fill(Priority::High), 10);
        let refused = admission.enter(Priority::Normal).expect_err("full");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("9 calls") && refused.message().contains("of 10"));
        drop(held);
        assert_eq!(admission.in_flight(), 0);
    }

    #[test]
    fn a_small_budget_is_everybodys() {
        for priority in [Priority::Normal, Priority::High] {
            assert_eq!(priority.share_of(1), 1);
            assert_eq!(priority.share_of(9), 9);
        }
        assert_eq!(Priority::Low.share_of(1), 1);
    }

    #[tokio::test]
    async fn a_channel_is_closed_when_its_last_call_has_ended() {
        let admission = Arc::new(Admission::new(None));
        let call = admission.enter(Priority::Normal).expect("room");
        admission.close();
        assert!(admission.enter(Priority::High).is_err());
        let closed = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.closed().await }
        });
        tokio::task::yield_now().await;
        assert!(!closed.is_finished());
        drop(call);
        closed.await.expect("closed");
    }
}
