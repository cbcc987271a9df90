//! The endpoints of a channel: those that the registry lists and that take calls, and those that serve on although it
//! has dropped them.

mod entry;
mod losses;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use registry::{Instance, InstanceId, Snapshot, Status, Update};

use super::{Remark, Stats, ejection::Ejected};
use crate::{
    endpoint::Endpoint,
    policy::{Candidate, Census, Endpoints},
    subchannel::SubchannelContext,
    target::Selector,
};
use entry::Entry;
use losses::Level;

/// When endpoints serve on that the registry has dropped, and when those are used that are said to be unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leniency {
    /// Below so many healthy endpoints of a hundred, all are used; 0 never.
    pub(super) panic_percent: u32,
    /// When more than so many of a hundred are dropped at once, those that are connected serve on.
    pub(super) lost_percent: u32,
    /// For how long at most.
    pub(super) hold_for: Duration,
}

impl Leniency {
    /// Whether those may ever be used that are said to be unhealthy.
    fn uses_unhealthy(self) -> bool {
        self.panic_percent > 0
    }
}

pub(super) struct Entries {
    context: Arc<SubchannelContext>,
    selector: Selector,
    leniency: Leniency,
    /// What the registry said last.
    listed: Option<Snapshot>,
    all: BTreeMap<InstanceId, Entry>,
    /// Those that have changed since they were last shown: what a change costs depends on them, and not on all others.
    changed: Vec<InstanceId>,
    /// Those of whom there is something to remark: unhealthy, or dropped by the registry.
    special: BTreeSet<InstanceId>,
    /// All endpoints in order; made anew when one comes, goes or changes.
    endpoints: Option<Arc<[Arc<Endpoint>]>>,
    /// Who is in which state; made anew when that changes.
    census: Option<Census>,
    panicking: bool,
    /// Taken at a loss, unless the one before it was at the same time.
    level: Option<Level>,
    /// Whether some serve on that were lost.
    losing: bool,
    stats: Arc<Stats>,
}

impl Entries {
    pub(super) fn new(
        context: Arc<SubchannelContext>,
        selector: Selector,
        leniency: Leniency,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            stats,
            context,
            selector,
            leniency,
            listed: None,
            all: BTreeMap::new(),
            changed: Vec::new(),
            special: BTreeSet::new(),
            endpoints: None,
            census: None,
            panicking: false,
            level: None,
            losing: false,
        }
    }

    /// How many instances the registry lists, whether or not they take calls.
    pub(super) fn listed(&self) -> usize {
        self.listed.as_ref().map_or(0, Snapshot::len)
    }

    /// What the registry said last.
    pub(super) fn list(&self) -> Option<Snapshot> {
        self.listed.clone()
    }

    /// Whether all are used because too few are healthy.
    pub(super) fn is_panicking(&self) -> bool {
        self.panicking
    }

    /// Looks at all instances again where others may take calls from now on.
    pub(super) fn set_leniency(&mut self, leniency: Leniency) {
        let before = std::mem::replace(&mut self.leniency, leniency);
        if before.uses_unhealthy() != leniency.uses_unhealthy()
            && let Some(listed) = self.listed.take()
        {
            self.follow(listed);
        }
    }

    /// As the policy is to see them, in the order of their ids.
    pub(super) fn candidates(&self) -> Vec<&Candidate> {
        self.all.values().map(Entry::candidate).collect()
    }

    /// Makes the endpoints those of `snapshot`; costs about what changed. Who stays keeps its connection and its
    /// statistics.
    pub(super) fn follow(&mut self, snapshot: Snapshot) {
        let changes = match &self.listed {
            Some(before) => snapshot.changes_since(before),
            None => snapshot.instances().cloned().map(Update::Upsert).collect(),
        };
        self.listed = Some(snapshot);
        let held = self.held(&changes);
        let (mut new, mut leaving) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Update::Upsert(instance) if self.takes_calls(&instance) => {
                    new.extend(self.update(instance));
                }
                Update::Upsert(instance) => leaving.push(instance),
                Update::Remove(id) => self.lose(&id, held),
                Update::Reset(_) => unreachable!("a difference between two snapshots is no reset"),
            }
        }
        for endpoint in Endpoint::within(&self.context, new) {
            self.insert(endpoint);
        }
        self.leave(&leaving);
    }

    fn takes_calls(&self, instance: &Instance) -> bool {
        let status = match instance.status {
            Status::Serving => true,
            // It is no candidate but when all are used.
            Status::NotServing => self.leniency.uses_unhealthy(),
            Status::Draining => false,
        };
        status && self.selector.selects(instance)
    }

    /// Tells the endpoint what its instance says of itself now; gives the instance back when it is another.
    fn update(&mut self, instance: Arc<Instance>) -> Option<Arc<Instance>> {
        let entry = self.all.get(&instance.id);
        if entry.is_none_or(|entry| !entry.endpoint().is_still(&instance)) {
            return Some(instance);
        }
        let id = instance.id.clone();
        self.change(id, |entry| entry.now_says(instance));
        None
    }

    fn insert(&mut self, endpoint: Arc<Endpoint>) {
        (self.endpoints, self.census) = (None, None);
        let id = endpoint.instance().id.clone();
        if let Some(before) = self.all.insert(id.clone(), Entry::new(endpoint)) {
            before.endpoint().subchannel().shut_down();
        }
        self.change(id, |_| ());
    }

    /// Changes an entry, if it is there: the one way to do so.
    fn change(&mut self, id: InstanceId, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.all.get_mut(&id) else {
            return;
        };
        change(entry);
        if entry.is_dropped() || !entry.is_healthy() {
            self.special.insert(id.clone());
        } else {
            self.special.remove(&id);
        }
        self.changed.push(id);
    }

    /// Those of whom there is something to remark.
    fn special(&self) -> impl Iterator<Item = &Entry> {
        self.special.iter().filter_map(|id| self.all.get(id))
    }

    /// Those of them that the registry has dropped.
    fn dropped(&self) -> impl Iterator<Item = &Entry> {
        self.special().filter(|entry| entry.is_dropped())
    }

    fn remove(&mut self, id: &InstanceId) {
        if let Some(entry) = self.all.remove(id) {
            (self.endpoints, self.census) = (None, None);
            self.special.remove(id);
            entry.endpoint().subchannel().shut_down();
        }
    }

    /// Looks at the states of the subchannels that have changed, and lets go whoever is held on to without need.
    pub(super) fn refresh(&mut self) {
        for id in self.context.changes.take() {
            self.change(id, Entry::refresh);
        }
        self.let_go();
    }

    /// Decides whether all are to be used, and makes the candidates as the policy is to see them.
    pub(super) fn show(&mut self) {
        let unhealthy = self.special().filter(|e| !e.is_healthy()).count();
        let healthy = self.all.len() - unhealthy;
        let panicking = healthy * 100 < self.all.len() * self.leniency.panic_percent as usize;
        if panicking != self.panicking {
            self.panicking = panicking;
            self.changed = self.all.keys().cloned().collect();
            let all = self.all.len();
            if panicking {
                self.stats.panicked();
                tracing::warn!(healthy, all, "too few endpoints are healthy: all are used");
            } else {
                tracing::info!(healthy, all, "enough endpoints are healthy again");
            }
        }
        for id in std::mem::take(&mut self.changed) {
            let entry = self.all.get_mut(&id);
            if entry.is_some_and(|entry| entry.show(panicking)) {
                self.census = None;
            }
        }
    }

    /// Who of the candidates is in which state; counted when it has changed.
    pub(super) fn census(&mut self) -> Census {
        let all = &self.all;
        let count = || {
            let candidates: Vec<_> = all.values().map(Entry::candidate).collect();
            Endpoints::new(&candidates).census()
        };
        self.census.get_or_insert_with(count).clone()
    }

    /// The endpoints whose calls have failed so often in a row that the outlier detection is to be asked.
    pub(super) fn suspicious(&self) -> Vec<u64> {
        // They have told the driver, and so are among those that have changed.
        let changed = self.changed.iter().filter_map(|id| self.all.get(id));
        let endpoints = changed.map(Entry::endpoint);
        let suspicious = endpoints.filter(|e| e.record().take_suspicion());
        suspicious.map(|e| e.serial()).collect()
    }

    /// All endpoints, in the order of their ids.
    pub(super) fn endpoints(&mut self) -> Arc<[Arc<Endpoint>]> {
        let all = &self.all;
        let endpoints = || all.values().map(|e| Arc::clone(e.endpoint())).collect();
        Arc::clone(self.endpoints.get_or_insert_with(endpoints))
    }

    /// What is special about some endpoints, by serial.
    pub(super) fn remarks(&self) -> HashMap<u64, Remark> {
        let remark = |e: &Entry| Some((e.endpoint().serial(), e.remark(self.panicking)?));
        self.special().filter_map(remark).collect()
    }

    /// Marks the endpoint of that serial as ejected, or as not ejected any more.
    pub(super) fn eject(&mut self, serial: u64, ejected: Option<Ejected>) {
        let mut entries = self.all.iter();
        if let Some((id, _)) = entries.find(|(_, e)| e.endpoint().serial() == serial) {
            self.change(id.clone(), |entry| entry.eject(ejected));
        }
    }

    pub(super) fn shut_down(&mut self) {
        for entry in std::mem::take(&mut self.all).into_values() {
            entry.endpoint().subchannel().shut_down();
        }
        self.special.clear();
        (self.endpoints, self.census) = (None, None);
    }
}
