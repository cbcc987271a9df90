//! When a call that is not answered yet is sent again (gRFC A6, "Hedging").

use tokio::time::Instant;

use super::{Failure, Pushback, Throttle};
use crate::service_config::HedgingPolicy;

/// Counts the attempts of a call that are under way at a time, and tells when the next is due. It knows no clock: the
/// moments are given.
///
/// An attempt that goes elsewhere because no server has processed it is the same attempt.
#[derive(Debug)]
pub(crate) struct Hedges<'p> {
    policy: &'p HedgingPolicy,
    started: u32,
    running: u32,
    /// `None` when no more are to be sent.
    due: Option<Instant>,
    fatal: bool,
}

impl<'p> Hedges<'p> {
    /// The first attempt is sent `now`, whatever the throttle says.
    pub(crate) fn new(policy: &'p HedgingPolicy, now: Instant) -> Self {
        let mut this = Self {
            policy,
            started: 1,
            running: 1,
            due: None,
            fatal: false,
        };
        this.schedule(now);
        this
    }

    /// When the next attempt is to be sent; `None` when there is none to come.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Counts the attempt that is due as sent `now`, and tells how many there were before it. `None` when it is not to be
    /// sent: it is not due yet, or the throttle forbids it and all that would follow.
    pub(crate) fn start(&mut self, now: Instant, throttle: Option<&Throttle>) -> Option<u32> {
        if self.due? > now {
            return None;
        }
        if !allowed(throttle) {
            self.stop();
            return None;
        }
        let previous = self.started;
        self.started += 1;
        self.running += 1;
        self.schedule(now);
        Some(previous)
    }

    /// An attempt has failed `now`.
    ///
    /// A code that is not fatal has the next attempt sent at once; the server may say when instead, or that there is to be
    /// none. Any other code ends the call, whatever is still under way.
    pub(crate) fn failed(&mut self, failure: &Failure, now: Instant, throttle: Option<&Throttle>) {
        self.running = self.running.saturating_sub(1);
        let fatal = !self
            .policy
            .non_fatal_status_codes
            .contains(failure.status.code);
        let never = failure.pushback == Some(Pushback::Never);
        if !fatal || never {
            throttle.inspect(|throttle| throttle.failed());
        }
        self.fatal |= fatal;
        if fatal || never || !allowed(throttle) {
            self.stop();
        }
        if self.due.is_some() {
            self.due = match failure.pushback {
                Some(Pushback::After(wait)) => now.checked_add(wait),
                _ => Some(now),
            };
        }
    }

    /// An attempt has ended that says nothing: the call is committed to another.
    pub(crate) fn lost(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Sends no more: the call is committed. Those that are under way go on.
    pub(crate) fn stop(&mut self) {
        self.due = None;
    }

    /// Whether the last failure is the call's: it was fatal, or nothing is under way and nothing is to come.
    pub(crate) fn is_over(&self) -> bool {
        self.fatal || (self.running == 0 && self.due.is_none())
    }

    fn schedule(&mut self, now: Instant) {
        let more = self.started < self.policy.max_attempts;
        // A delay beyond what a clock can tell is never.
        let next = now.checked_add(self.policy.hedging_delay);
        self.due = next.filter(|_| more);
    }
}

fn allowed(throttle: Option<&Throttle>) -> bool {
    throttle.is_none_or(Throttle::allows)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Failure, Hedges, HedgingPolicy, Instant, Pushback, Throttle};
    use crate::{
        service_config::RetryThrottling,
        status::{Code, Status},
    };

    const DELAY: Duration = Duration::from_millis(100);

    fn policy(delay: Duration) -> HedgingPolicy {
        HedgingPolicy {
            max_attempts: 3,
            hedging_delay: delay,
            non_fatal_status_codes: [Code::Unavailable].into_iter().collect(),
        }
    }

    fn failure(code: Code, pushback: Option<Pushback>) -> Failure {
        Failure {
            status: Status::new(code, ""),
            pushback,
        }
    }

    fn unavailable() -> Failure {
        failure(Code::Unavailable, None)
    }

    /// The moment `millis` after the call began.
    fn after(began: Instant, millis: u64) -> Instant {
        began + Duration::from_millis(millis)
    }

    /// Of one token, so that one failure is too many.
    fn brittle() -> Throttle {
        Throttle::new(RetryThrottling {
            max_millitokens: 1_000,
            millitoken_ratio: 1,
        })
    }

    #[test]
    fn an_attempt_is_sent_after_each_delay_until_there_are_enough() {
        let (policy, began) = (policy(DELAY), Instant::now());
        let mut hedges = Hedges::new(&policy, began);
        assert_eq!(hedges.due(), Some(after(began, 100)));
        assert_eq!(hedges.start(after(began, 99), None), None);
        assert_eq!(hedges.start(after(began, 130), None), Some(1));
        assert_eq!(hedges.due(), Some(after(began, 230)));
        assert_eq!(hedges.start(after(began, 230), None), Some(2));
        assert_eq!(hedges.due(), None);
        assert!(!hedges.is_over(), "three are under way");
    }

    #[test]
    fn without_a_delay_all_are_sent_at_once() {
        let (policy, now) = (policy(Duration::ZERO), Instant::now());
        let mut hedges = Hedges::new(&policy, now);
        let sent: Vec<_> = std::iter::from_fn(|| hedges.start(now, None)).collect();
        assert_eq!(sent, [1, 2]);
    }

    #[test]
    fn a_failure_that_is_not_fatal_has_the_next_sent_at_once_and_the_last_one_is_the_calls() {
        let (policy, began) = (policy(DELAY), Instant::now());
        let mut hedges = Hedges::new(&policy, began);
        let now = after(began, 10);
        for previous in [1, 2] {
            hedges.failed(&unavailable(), now, None);
            assert_eq!(hedges.due(), Some(now));
            assert!(!hedges.is_over());
            assert_eq!(hedges.start(now, None), Some(previous));
        }
        hedges.failed(&unavailable(), now, None);
        assert!(hedges.is_over());
    }

    #[test]
    fn a_failure_waits_for_those_that_are_under_way() {
        let (policy, now) = (policy(Duration::ZERO), Instant::now());
        let mut hedges = Hedges::new(&policy, now);
        while hedges.start(now, None).is_some() {}
        hedges.failed(&unavailable(), now, None);
        hedges.lost();
        assert!(!hedges.is_over());
        hedges.failed(&unavailable(), now, None);
        assert!(hedges.is_over());
    }

    #[test]
    fn a_fatal_failure_ends_the_call() {
        let (policy, now) = (policy(DELAY), Instant::now());
        let mut hedges = Hedges::new(&policy, now);
        hedges.start(now + DELAY, None).expect("due");
        hedges.failed(&failure(Code::InvalidArgument, None), now, None);
        assert!(hedges.is_over());
        assert_eq!(hedges.due(), None);
    }

    #[test]
    fn the_server_says_when_the_next_is_sent_or_that_none_is() {
        let (policy, began) = (policy(DELAY), Instant::now());
        let mut hedges = Hedges::new(&policy, began);
        let later = Pushback::After(Duration::from_secs(1));
        hedges.failed(&failure(Code::Unavailable, Some(later)), began, None);
        assert_eq!(hedges.due(), Some(after(began, 1_000)));
        assert!(!hedges.is_over(), "the next is to come");
        assert_eq!(hedges.start(after(began, 1_000), None), Some(1));
        assert_eq!(hedges.due(), Some(after(began, 1_100)), "then as ever");
        let never = failure(Code::Unavailable, Some(Pushback::Never));
        hedges.failed(&never, after(began, 1_001), None);
        assert_eq!(hedges.due(), None);
        assert!(hedges.is_over());
    }

    #[test]
    fn a_service_that_fails_too_much_is_sent_no_hedge() {
        let (policy, now) = (policy(DELAY), Instant::now());
        let throttle = brittle();
        let mut failing = Hedges::new(&policy, now);
        let mut other = Hedges::new(&policy, now);
        failing.failed(&unavailable(), now, Some(&throttle));
        assert!(failing.is_over(), "it took the last token");
        assert_eq!(other.start(now + DELAY, Some(&throttle)), None);
        assert_eq!(other.due(), None);
        assert!(!other.is_over(), "its first attempt goes on");
    }

    #[test]
    fn what_is_no_sign_of_load_takes_no_token() {
        let (policy, now) = (policy(DELAY), Instant::now());
        let throttle = brittle();
        let fatal = |pushback| failure(Code::InvalidArgument, pushback);
        Hedges::new(&policy, now).failed(&fatal(None), now, Some(&throttle));
        assert!(throttle.allows());
        let never = fatal(Some(Pushback::Never));
        Hedges::new(&policy, now).failed(&never, now, Some(&throttle));
        assert!(!throttle.allows(), "never is such a sign");
    }

    #[test]
    fn a_delay_without_end_sends_none() {
        let policy = policy(Duration::MAX);
        assert_eq!(Hedges::new(&policy, Instant::now()).due(), None);
    }

    #[derive(Debug, Clone)]
    enum Event {
        Passes(u64),
        Fails(Option<Pushback>),
        Starts,
    }

    fn pushback() -> impl Strategy<Value = Pushback> {
        let after = (0u64..500).prop_map(Duration::from_millis);
        prop_oneof![
            1 => Just(Pushback::Never),
            3 => after.prop_map(Pushback::After),
        ]
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0u64..200).prop_map(Event::Passes),
            prop::option::weighted(0.3, pushback()).prop_map(Event::Fails),
            Just(Event::Starts),
        ]
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_the_policy_says_and_a_call_ends_just_when_nothing_is_left(
            events in prop::collection::vec(event(), 0..40),
        ) {
            let policy = policy(DELAY);
            let mut now = Instant::now();
            let mut hedges = Hedges::new(&policy, now);
            let (mut started, mut running, mut never) = (1, 1, false);
            for event in events {
                match event {
                    Event::Passes(millis) => now = after(now, millis),
                    Event::Fails(_) if running == 0 => {}
                    Event::Fails(pushback) => {
                        running -= 1;
                        never |= pushback == Some(Pushback::Never);
                        hedges.failed(&failure(Code::Unavailable, pushback), now, None);
                    }
                    Event::Starts => {
                        let due = hedges.due().is_some_and(|due| due <= now);
                        let previous = hedges.start(now, None);
                        prop_assert_eq!(previous, due.then_some(started));
                        if due {
                            started += 1;
                            running += 1;
                        }
                    }
                }
                prop_assert!(started <= policy.max_attempts);
                prop_assert_eq!(hedges.due().is_some(), started < policy.max_attempts && !never);
                prop_assert_eq!(hedges.is_over(), running == 0 && hedges.due().is_none());
            }
        }
    }
}
