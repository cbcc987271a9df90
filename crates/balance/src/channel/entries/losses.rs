//! What becomes of endpoints that the registry drops, or that say that they leave (ADR 23).

use std::{sync::Arc, time::Duration};

use registry::{Instance, InstanceId, Status, Update};
use tokio::time::Instant;

use super::{
    Entries,
    entry::{Dropped, Entry, Why},
};

/// What goes within this time goes at once: the leases of processes that are cut off together end one after another, within a
/// third of their TTL.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Who was there before some were lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    listed: usize,
    serving: usize,
    at: Instant,
}

impl Entries {
    /// How those are held on to that `changes` drop; `None` when the registry is to be believed.
    ///
    /// A list that loses most of its instances at once is more often a fault than the end of a service, and a call that fails is
    /// worse than one that is served by a leaver. They serve beside those that are left, which could not take the calls of all.
    pub(super) fn held(&mut self, changes: &[Update]) -> Option<Dropped> {
        let lost = changes.iter().filter(|change| match change {
            Update::Remove(id) => self.all.get(id).is_some_and(|e| !e.is_dropped()),
            Update::Upsert(_) | Update::Reset(_) => false,
        });
        let lost = lost.count();
        if lost == 0 {
            return None;
        }
        let (now, listed) = (Instant::now(), self.all.len() - self.dropped().count());
        let level = match self.level {
            Some(level) if listed < level.listed && now < level.at + AT_ONCE => level,
            _ => Level {
                listed,
                serving: self.serving(),
                at: now,
            },
        };
        self.level = Some(level);
        let share = |of: usize| of * self.leniency.lost_percent as usize / 100;
        let gone = level.listed - (listed - lost);
        let dropped = Dropped {
            why: Why::Lost,
            until: now + self.leniency.hold_for,
            enough: (level.serving - share(level.serving)).max(1),
        };
        (gone > share(level.listed)).then_some(dropped)
    }

    /// How many of those that the registry lists can be called.
    fn serving(&self) -> usize {
        let listed = self.all.values().filter(|e| !e.is_dropped());
        listed.filter(|e| e.is_ready() && e.is_healthy()).count()
    }

    /// The registry lists an instance no more.
    pub(super) fn lose(&mut self, id: &InstanceId, held: Option<Dropped>) {
        match held {
            Some(dropped) => self.change(id.clone(), |entry| entry.drop_leniently(dropped)),
            // It had said that it leaves, and is called on for want of others.
            None if self.all.get(id).is_some_and(Entry::is_dropped) => {}
            None => self.remove(id),
        }
    }

    /// Instances say themselves that they take no calls any more: that is to be believed, unless all drain and there would be
    /// nobody.
    pub(super) fn leave(&mut self, leaving: &[Arc<Instance>]) {
        let stays = |id: &InstanceId| self.all.get(id).is_some_and(|entry| !entry.drains());
        let left = leaving.iter().filter(|i| stays(&i.id)).count();
        let alone = left + self.dropped().filter(|e| e.drains()).count() == self.all.len();
        let dropped = Dropped {
            why: Why::Drains,
            until: Instant::now() + self.leniency.hold_for,
            enough: 1,
        };
        for instance in leaving {
            if alone && instance.status == Status::Draining {
                let id = instance.id.clone();
                self.change(id, |entry| entry.drop_leniently(dropped));
            } else {
                self.remove(&instance.id);
            }
        }
    }

    /// Lets go whoever is held on to without need.
    pub(super) fn let_go(&mut self) {
        if self.dropped().next().is_none() {
            self.losing = false;
            return;
        }
        let (serving, now) = (self.serving(), Instant::now());
        let needless: Vec<_> = self
            .dropped()
            .filter(|entry| entry.is_held_needlessly(serving, now))
            .map(|entry| entry.endpoint().instance().id.clone())
            .collect();
        for id in needless {
            self.remove(&id);
        }
        let are_held = self.dropped().any(|entry| !entry.drains());
        if are_held && !self.losing {
            self.stats.lost_many();
        }
        self.losing = are_held;
    }

    /// When somebody who is held on to has to go, at the latest.
    pub(in crate::channel) fn next_release(&self) -> Option<Instant> {
        self.dropped().filter_map(Entry::held_until).min()
    }
}
