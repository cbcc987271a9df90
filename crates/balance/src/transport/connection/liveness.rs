//! Whether the peer is alive, and when to ask: the rules, apart from any clock and any socket.

use std::time::Duration;

use tokio::time::Instant;

use super::Availability;
use crate::transport::keep_alive::Pace;

/// A suspected peer that has not answered for this long is not picked until it does.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);
/// So many PINGs on suspicion go out while the peer says nothing but that it is there. Servers count PINGs between which
/// they have sent nothing, and end the connection at the third that is too many (gRFC A8); what hangs there is the
/// application, and asking again would not tell more.
const IDLE_QUESTIONS: u32 = 2;
/// After that, as often as every server allows.
const ALLOWED_BY_ALL: Duration = Duration::from_mins(5);

/// What is known of a peer.
#[derive(Debug)]
pub(super) struct Liveness {
    pace: Pace,
    /// The PING under way; HTTP/2 as we have it knows one at a time.
    question: Option<Question>,
    /// When something was heard last, or asked for the last time without effect.
    quiet_since: Instant,
    /// How many suspicions in a row were answered by a PING's acknowledgement and nothing more.
    idle_questions: u32,
    heard_with_answer: u64,
    asked: Instant,
    abandoned: bool,
}

#[derive(Debug)]
struct Question {
    sent: Instant,
    suspected: Option<Instant>,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing until then, or until something happens.
    Wait(Option<Instant>),
    /// A PING is to be sent.
    Ask,
    /// The PING under way will not be answered any more.
    GiveUp,
}

impl Liveness {
    /// A peer that nothing has been heard of, to which the first PING goes now.
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            question: Some(Question {
                sent: now,
                suspected: None,
            }),
            quiet_since: now,
            idle_questions: 0,
            heard_with_answer: 0,
            asked: now,
            abandoned: false,
        }
    }

    /// Whether the clock matters: a PING is under way, or goes out by it.
    pub(super) fn is_timed(&self) -> bool {
        self.question.is_some() || self.pace.interval().is_some()
    }

    pub(super) fn is_asked(&self) -> bool {
        self.question.is_some()
    }

    /// A call has ended in silence. Says whether a PING is to be sent.
    pub(super) fn suspect(&mut self, now: Instant, heard: u64) -> bool {
        if let Some(question) = &mut self.question {
            question.suspected.get_or_insert(now);
            return false;
        }
        if heard != self.heard_with_answer {
            self.idle_questions = 0;
        }
        if self.idle_questions >= IDLE_QUESTIONS && now < self.asked + ALLOWED_BY_ALL {
            return false;
        }
        self.idle_questions += 1;
        self.ask(now, Some(now));
        true
    }

    /// Something was heard, an answer or not; of a connection that nobody uses it says nothing.
    pub(super) fn hear(&mut self, now: Instant) {
        if !self.abandoned {
            self.quiet_since = now;
        }
    }

    /// The PING under way was answered.
    pub(super) fn answered(&mut self, heard: u64) {
        self.question = None;
        self.heard_with_answer = heard;
    }

    /// Nobody uses the connection any more; its end takes as long as an answer may, and no longer.
    pub(super) fn abandon(&mut self, now: Instant) {
        self.abandoned = true;
        if self.question.is_none() {
            self.ask(now, None);
        }
    }

    /// What is to be done; `Ask` is taken as done.
    pub(super) fn step(&mut self, now: Instant, has_calls: bool) -> Step {
        if let Some(question) = &self.question {
            // gRFC A8: whatever is heard is a sign of life. An answer may have to wait for much that was sent before it.
            let last = question.sent.max(self.quiet_since);
            let end = last.checked_add(self.pace.timeout());
            if end.is_some_and(|end| now >= end) {
                return Step::GiveUp;
            }
            let silent = question.suspected.map(|since| since + PATIENCE);
            let silent = silent.filter(|at| now < *at);
            return Step::Wait(silent.into_iter().chain(end).min());
        }
        let due = self.due();
        if due.is_none_or(|due| now < due) {
            return Step::Wait(due);
        }
        self.quiet_since = now;
        if has_calls || self.pace.without_calls() {
            self.ask(now, None);
            Step::Ask
        } else {
            Step::Wait(self.due())
        }
    }

    /// When a PING goes out by the clock. A moment beyond what a clock can tell never comes.
    fn due(&self) -> Option<Instant> {
        self.quiet_since.checked_add(self.pace.interval()?)
    }

    pub(super) fn availability(&self, now: Instant) -> Availability {
        match self.question.as_ref().and_then(|asked| asked.suspected) {
            None => Availability::Open,
            Some(since) if now < since + PATIENCE => Availability::Suspected,
            Some(_) => Availability::Silent,
        }
    }

    fn ask(&mut self, now: Instant, suspected: Option<Instant>) {
        self.asked = now;
        self.question = Some(Question {
            sent: now,
            suspected,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::KeepAlive;

    const SECOND: Duration = Duration::from_secs(1);

    /// A peer that has answered its first PING.
    fn alive(keep_alive: KeepAlive) -> (Liveness, Instant) {
        let now = Instant::now();
        let mut liveness = Liveness::new(Pace::new(keep_alive), now);
        liveness.answered(17);
        (liveness, now)
    }

    #[test]
    fn silence_after_a_suspicion_is_noticed_given_up_and_ended_by_an_answer() {
        let (mut peer, now) = alive(KeepAlive::default());
        assert_eq!(peer.step(now, true), Step::Wait(None));
        assert_eq!(peer.availability(now), Availability::Open);
        assert!(peer.suspect(now, 17));
        assert_eq!(peer.availability(now), Availability::Suspected);
        assert_eq!(peer.step(now, true), Step::Wait(Some(now + PATIENCE)));
        let silent = now + PATIENCE;
        assert_eq!(peer.availability(silent), Availability::Silent);
        let end = now + 20 * SECOND;
        assert_eq!(peer.step(silent, true), Step::Wait(Some(end)));
        // Other bytes are no answer, and a sign of life.
        peer.hear(silent);
        assert_eq!(peer.availability(silent), Availability::Silent);
        let end = end + PATIENCE;
        assert_eq!(peer.step(end - PATIENCE, true), Step::Wait(Some(end)));
        assert_eq!(peer.step(end, true), Step::GiveUp);
        peer.answered(34);
        assert_eq!(peer.availability(end), Availability::Open);
    }

    #[test]
    fn what_nobody_uses_ends_in_time_whatever_comes_from_it() {
        let (mut peer, now) = alive(KeepAlive::default());
        peer.abandon(now);
        peer.hear(now + SECOND);
        assert_eq!(peer.step(now + 20 * SECOND, false), Step::GiveUp);
    }

    #[test]
    fn times_beyond_what_a_clock_can_tell_never_come() {
        let (mut peer, now) = alive(KeepAlive::every(Duration::MAX).with_timeout(Duration::MAX));
        assert_eq!(peer.step(now, true), Step::Wait(None));
        assert!(peer.suspect(now, 17));
        assert_eq!(peer.step(now, true), Step::Wait(Some(now + PATIENCE)));
        assert_eq!(peer.step(now + 3_600 * SECOND, true), Step::Wait(None));
    }

    #[test]
    fn a_suspicion_shares_the_ping_under_way_and_gets_its_own_patience() {
        let (mut peer, now) = alive(KeepAlive::every(10 * SECOND));
        let asked = now + 10 * SECOND;
        assert_eq!(peer.step(asked, true), Step::Ask);
        assert_eq!(peer.availability(asked + SECOND), Availability::Open);
        assert!(!peer.suspect(asked + SECOND, 17));
        assert_eq!(peer.availability(asked + SECOND), Availability::Suspected);
        assert_eq!(
            peer.availability(asked + SECOND + PATIENCE),
            Availability::Silent
        );
        assert_eq!(peer.step(asked + 20 * SECOND, true), Step::GiveUp);
    }

    #[test]
    fn a_server_that_counts_pings_is_not_asked_a_third_time_about_a_hanging_application() {
        let (mut peer, mut now) = alive(KeepAlive::default());
        let mut asked = 0;
        let mut heard = 17;
        for _ in 0..1_000 {
            now += SECOND / 10;
            if peer.suspect(now, heard) {
                asked += 1;
                heard += 17;
                peer.answered(heard);
            }
        }
        assert_eq!(asked, 2);
        assert!(peer.suspect(now + ALLOWED_BY_ALL, heard), "long after");
        heard += 17;
        peer.answered(heard);
        assert!(!peer.suspect(now + ALLOWED_BY_ALL, heard));
        assert!(
            peer.suspect(now + ALLOWED_BY_ALL, heard + 1),
            "it has said something since"
        );
    }

    #[test]
    fn keep_alive_asks_after_each_interval_of_quiet_and_by_default_with_calls_only() {
        let (mut peer, now) = alive(KeepAlive::every(10 * SECOND));
        peer.hear(now + 4 * SECOND);
        let due = now + 14 * SECOND;
        assert_eq!(
            peer.step(now + 10 * SECOND, true),
            Step::Wait(Some(due)),
            "heard since"
        );
        assert_eq!(
            peer.step(due, false),
            Step::Wait(Some(due + 10 * SECOND)),
            "no calls"
        );
        let (mut peer, now) = alive(KeepAlive::every(10 * SECOND).without_calls(true));
        assert_eq!(peer.step(now + 10 * SECOND, false), Step::Ask);
    }
}
