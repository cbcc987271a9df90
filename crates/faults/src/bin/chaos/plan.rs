//! What goes wrong next, and for how long: drawn by chance, and the same again for the same seed. Pure.

use std::{fmt, ops::Range, time::Duration};

use fastrand::Rng;

/// What is done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    /// SIGKILL; it is started again.
    Killed,
    /// SIGTERM, and it ends by itself; it is started again.
    Stopped,
    /// Frozen, and goes on where it was.
    Paused,
    /// Taken out of the network, and put back.
    CutOff,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::CutOff => "cut off from the network",
        })
    }
}

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The greeter at this place, counted round.
    Greeter(usize),
    /// The user service at this place, counted round.
    User(usize),
    /// One member of etcd.
    Member(usize),
    /// All members at once: the outage.
    AllMembers,
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeter(place) => write!(f, "greeter {place}"),
            Self::User(place) => write!(f, "user {place}"),
            Self::Member(place) => write!(f, "etcd {place}"),
            Self::AllMembers => f.write_str("all of etcd"),
        }
    }
}

/// One fault. There is never another beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// How long all is left alone before.
    pub(crate) calm: Duration,
    pub(crate) deed: Deed,
    pub(crate) whom: Whom,
    /// How long it lasts.
    pub(crate) lasts: Duration,
}

/// Milliseconds.
const CALM: Range<u64> = 1_000..4_000;
const FAULT: Range<u64> = 2_000..10_000;
/// Longer than the leases of 10 s.
const OUTAGE: Range<u64> = 11_000..15_000;
/// Who it is for, out of a hundred; the rest is for greeters.
const OUTAGES: u32 = 8;
const MEMBERS: u32 = 27;
const USERS: u32 = 20;

/// Faults without an end.
#[derive(Debug)]
pub(crate) struct Plan(Rng);

impl Plan {
    /// The same for the same seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    fn time(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.0.u64(range))
    }

    fn place(&mut self) -> usize {
        self.0.usize(..12)
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let calm = self.time(CALM);
        let drawn = self.0.u32(..100);
        let whom = if drawn < OUTAGES {
            Whom::AllMembers
        } else if drawn < OUTAGES + MEMBERS {
            Whom::Member(self.place())
        } else if drawn < OUTAGES + MEMBERS + USERS {
            Whom::User(self.place())
        } else {
            Whom::Greeter(self.place())
        };
        let deeds: &[Deed] = match whom {
            Whom::AllMembers => &[Deed::Killed],
            Whom::Member(_) => &[Deed::Killed, Deed::Paused, Deed::CutOff],
            Whom::Greeter(_) | Whom::User(_) => {
                &[Deed::Killed, Deed::Stopped, Deed::Paused, Deed::CutOff]
            }
        };
        let deed = deeds[self.0.usize(..deeds.len())];
        let lasts = self.time(if whom == Whom::AllMembers {
            OUTAGE
        } else {
            FAULT
        });
        Some(Step {
            calm,
            deed,
            whom,
            lasts,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn steps(seed: u64) -> Vec<Step> {
        Plan::of(seed).take(1_000).collect()
    }

    #[test]
    fn a_seed_is_the_same_faults_again() {
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn every_deed_is_done_to_everybody_that_it_is_for() {
        let kind = |step: &Step| (std::mem::discriminant(&step.whom), step.deed);
        let kinds: HashSet<_> = steps(1).iter().map(kind).collect();
        assert_eq!(kinds.len(), 4 + 4 + 3 + 1);
    }

    #[test]
    fn an_outage_is_longer_than_the_leases_and_nothing_lasts_longer() {
        for step in steps(1) {
            let is_outage = step.whom == Whom::AllMembers;
            assert_eq!(step.lasts > Duration::from_secs(10), is_outage, "{step:?}");
            assert!(step.lasts <= Duration::from_secs(15), "{step:?}");
            assert!(step.calm >= Duration::from_secs(1), "{step:?}");
        }
    }
}
