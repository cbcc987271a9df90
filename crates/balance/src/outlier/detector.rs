//! Who is ejected, since when, and who comes back.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use tokio::time::Instant;

use super::{
    Counts, Settings,
    algorithms::{failure_percentage_outliers, success_rate_outliers},
    finding::{Outlier, Spared, Why},
    share::most_ejected,
};

/// Knows which endpoints are ejected. It has no clock and no timer: whoever holds it calls [`sweep`](Self::sweep) when
/// [`next_sweep`](Self::next_sweep) has come.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    settings: Settings,
    members: BTreeMap<u64, Member>,
    /// How many members are ejected.
    ejected: usize,
    /// When the interval began that is being counted; `None` while nothing is to be detected.
    counting_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Member {
    ejected: Option<(Instant, Why)>,
    /// How many times in a row it was ejected; each sweep that finds it in service takes one off (A50's multiplier).
    ejections: u32,
}

/// What a sweep came to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sweep {
    pub(crate) outliers: Vec<Outlier>,
    /// Whose time is up: they get calls again.
    pub(crate) returned: Vec<u64>,
}

/// What new settings came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Configured {
    /// Who gets calls again.
    pub(crate) returned: Vec<u64>,
    /// Detection begins: what tallies hold from before is to be thrown away.
    pub(crate) begins: bool,
}

impl Detector {
    /// Detects by other settings from now on (A50: the interval goes on from when it began, and without any algorithm all
    /// is forgotten).
    pub(crate) fn configure(&mut self, settings: Settings, now: Instant) -> Configured {
        let is_on = settings.are_on();
        let begins = is_on && self.counting_since.is_none();
        self.settings = settings;
        let returned = if is_on {
            self.counting_since.get_or_insert(now);
            self.keep_to_share()
        } else {
            self.counting_since = None;
            self.forget_all()
        };
        Configured { returned, begins }
    }

    /// The endpoints that there are from now on; a number that is new is a new endpoint. Answers who gets calls again
    /// because fewer endpoints may not have as many of them ejected.
    pub(crate) fn endpoints(&mut self, serials: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut before = std::mem::take(&mut self.members);
        self.members = serials
            .into_iter()
            .map(|serial| (serial, before.remove(&serial).unwrap_or_default()))
            .collect();
        let ejected = self.members.values().filter(|m| m.ejected.is_some());
        self.ejected = ejected.count();
        self.keep_to_share()
    }

    /// When to sweep next; `None` while nothing is to be detected. May be past, after a change of the settings.
    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        let interval = self.settings.interval.max(Settings::SHORTEST_INTERVAL);
        self.counting_since?.checked_add(interval)
    }

    /// Judges what was counted since the last sweep, ejects outliers, and returns those whose time is up.
    ///
    /// Counts of an endpoint that there is not are ignored. An endpoint that is ejected already takes part in the
    /// comparison, with what was under way when it was, and is not ejected anew.
    pub(crate) fn sweep(&mut self, now: Instant, counts: &[Counts], rng: &mut Rng) -> Sweep {
        let mut sweep = Sweep::default();
        let Some(counting_since) = &mut self.counting_since else {
            return sweep;
        };
        *counting_since = now;
        let known = |c: &&Counts| self.members.contains_key(&c.serial);
        let counts: Vec<_> = counts.iter().filter(known).copied().collect();
        if let Some(by) = self.settings.success_rate {
            let outliers = success_rate_outliers(&by, &counts);
            self.judge(&outliers, by.enforcement_percentage, now, rng, &mut sweep);
        }
        if let Some(by) = self.settings.failure_percentage {
            let outliers = failure_percentage_outliers(&by, &counts);
            self.judge(&outliers, by.enforcement_percentage, now, rng, &mut sweep);
        }
        sweep.returned = self.age(now);
        sweep
    }

    /// An endpoint has failed so often in a row that its tally says to ask. `None` when there is nothing to say of it: it
    /// is ejected, or gone, or the settings have changed meanwhile.
    pub(crate) fn consecutive(
        &mut self,
        serial: u64,
        now: Instant,
        rng: &mut Rng,
    ) -> Option<Outlier> {
        let by = self.settings.consecutive_failures?;
        if self.members.get(&serial)?.ejected.is_some() {
            return None;
        }
        let failures = by.threshold.get();
        let why = Why::ConsecutiveFailures { failures };
        Some(self.enforce(serial, why, by.enforcement_percentage, now, rng))
    }

    /// Since when the endpoint is ejected, and why; `None` when it is not.
    pub(crate) fn ejection(&self, serial: u64) -> Option<(Instant, Why)> {
        self.members.get(&serial)?.ejected
    }

    /// How long the endpoint's present ejection lasts at least: it ends with the first sweep after that.
    pub(crate) fn ejected_for(&self, serial: u64) -> Option<Duration> {
        let member = self.members.get(&serial)?;
        member.ejected?;
        Some(self.settings.ejection_time(member.ejections))
    }

    fn judge(
        &mut self,
        outliers: &[(u64, Why)],
        enforcement: u32,
        now: Instant,
        rng: &mut Rng,
        sweep: &mut Sweep,
    ) {
        for &(serial, why) in outliers {
            if self.ejection(serial).is_some() {
                continue;
            }
            let outlier = self.enforce(serial, why, enforcement, now, rng);
            sweep.outliers.push(outlier);
        }
    }

    /// Ejects as many outliers of a hundred as are to be.
    fn enforce(
        &mut self,
        serial: u64,
        why: Why,
        enforcement: u32,
        now: Instant,
        rng: &mut Rng,
    ) -> Outlier {
        // A50 asks whether there is room before it asks chance.
        if self.has_room() && rng.u32(..100) >= enforcement {
            Outlier {
                serial,
                why,
                spared: Some(Spared::Enforcement),
            }
        } else {
            self.eject(serial, why, now)
        }
    }

    /// Ejects an endpoint that is in service, where the share allows.
    fn eject(&mut self, serial: u64, why: Why, now: Instant) -> Outlier {
        let spared = if self.has_room() {
            let member = self.members.entry(serial).or_default();
            member.ejected = Some((now, why));
            member.ejections = member.ejections.saturating_add(1);
            self.ejected += 1;
            None
        } else {
            Some(Spared::Share)
        };
        Outlier {
            serial,
            why,
            spared,
        }
    }

    fn has_room(&self) -> bool {
        self.ejected < most_ejected(self.members.len(), self.settings.max_ejection_percent)
    }

    /// A50's last step of a sweep: who is in service is trusted more, and whose time is up is so again.
    fn age(&mut self, now: Instant) -> Vec<u64> {
        let mut returned = Vec::new();
        for (&serial, member) in &mut self.members {
            match member.ejected {
                None => member.ejections = member.ejections.saturating_sub(1),
                Some((at, _)) => {
                    let lasts = self.settings.ejection_time(member.ejections);
                    if now.saturating_duration_since(at) > lasts {
                        member.ejected = None;
                        self.ejected -= 1;
                        returned.push(serial);
                    }
                }
            }
        }
        returned
    }

    /// Returns those that were ejected first until no more are ejected than may be.
    fn keep_to_share(&mut self) -> Vec<u64> {
        let most = most_ejected(self.members.len(), self.settings.max_ejection_percent);
        let Some(excess @ 1..) = self.ejected.checked_sub(most) else {
            return Vec::new();
        };
        let since = |(&serial, m): (&u64, &Member)| m.ejected.map(|(at, _)| (at, serial));
        let mut ejected: Vec<_> = self.members.iter().filter_map(since).collect();
        ejected.sort_unstable();
        let returned = ejected.into_iter().take(excess);
        let returned: Vec<_> = returned.map(|(_, serial)| serial).collect();
        for serial in &returned {
            if let Some(member) = self.members.get_mut(serial) {
                member.ejected = None;
            }
        }
        self.ejected = most;
        returned
    }

    fn forget_all(&mut self) -> Vec<u64> {
        self.ejected = 0;
        let mut returned = Vec::new();
        for (&serial, member) in &mut self.members {
            if std::mem::take(member).ejected.is_some() {
                returned.push(serial);
            }
        }
        returned
    }
}

#[cfg(test)]
mod tests;
