//! The endpoints of a channel: those that the registry lists and that take calls, and those that serve on although it
//! has dropped them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use registry::{Instance, InstanceId, Snapshot, Status, Update};

use crate::{
    endpoint::Endpoint,
    policy::Candidate,
    subchannel::{ConnectivityState, SubchannelContext, SubchannelState},
};

pub(super) struct Entries {
    context: Arc<SubchannelContext>,
    /// What the registry said last.
    listed: Option<Snapshot>,
    all: BTreeMap<InstanceId, Entry>,
    /// All endpoints in order; made anew when one comes, goes or changes.
    endpoints: Option<Arc<[Arc<Endpoint>]>>,
}

pub(super) struct Entry {
    candidate: Candidate,
    /// The state that the candidate was made from.
    seen: Arc<SubchannelState>,
    /// Nobody else is left: the registry has dropped it, and it serves while its connection lasts.
    last_resort: bool,
}

impl Entries {
    pub(super) fn new(context: Arc<SubchannelContext>) -> Self {
        Self {
            context,
            listed: None,
            all: BTreeMap::new(),
            endpoints: None,
        }
    }

    /// How many instances the registry lists, whether or not they take calls.
    pub(super) fn listed(&self) -> usize {
        self.listed.as_ref().map_or(0, Snapshot::len)
    }

    /// In the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.all.values()
    }

    /// Makes the endpoints those of `snapshot`; costs about what changed. Who stays keeps its connection and its
    /// statistics.
    pub(super) fn follow(&mut self, snapshot: Snapshot) {
        let changes = match &self.listed {
            Some(before) => snapshot.changes_since(before),
            None => snapshot.instances().cloned().map(Update::Upsert).collect(),
        };
        if snapshot.instances().any(|instance| takes_calls(instance)) {
            self.apply(changes);
        } else {
            // A list that went empty is more often a fault than the end of a service, and a call that fails is worse than
            // one that is served by a leaver: whoever is still connected serves on.
            for entry in self.all.values_mut() {
                entry.last_resort = true;
            }
        }
        self.listed = Some(snapshot);
    }

    fn apply(&mut self, changes: Vec<Update>) {
        for change in changes {
            match change {
                Update::Upsert(instance) if takes_calls(&instance) => self.upsert(instance),
                Update::Upsert(instance) => self.remove(&instance.id),
                Update::Remove(id) => self.remove(&id),
                Update::Reset(_) => unreachable!("a difference between two snapshots is no reset"),
            }
        }
    }

    fn upsert(&mut self, instance: Arc<Instance>) {
        self.endpoints = None;
        if let Some(entry) = self.all.get_mut(&instance.id)
            && entry.candidate.endpoint.is_still(&instance)
        {
            return entry.now_says(instance);
        }
        let id = instance.id.clone();
        let endpoint = Endpoint::within(instance, Some(Arc::clone(&self.context)));
        let entry = Entry::new(Arc::new(endpoint));
        if let Some(before) = self.all.insert(id, entry) {
            before.candidate.endpoint.subchannel().shut_down();
        }
    }

    fn remove(&mut self, id: &InstanceId) {
        if let Some(entry) = self.all.remove(id) {
            self.endpoints = None;
            entry.candidate.endpoint.subchannel().shut_down();
        }
    }

    /// Looks at the states of all subchannels, and lets last resorts go that are not needed any more.
    pub(super) fn refresh(&mut self) {
        for entry in self.all.values_mut() {
            entry.refresh();
        }
        let others_serve = self.iter().any(|e| !e.last_resort && e.is_ready());
        let gone: Vec<_> = self
            .all
            .iter()
            .filter(|(_, e)| e.last_resort && (others_serve || !e.is_ready()))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.remove(&id);
        }
    }

    /// All endpoints, in the order of their ids.
    pub(super) fn endpoints(&mut self) -> Arc<[Arc<Endpoint>]> {
        let all = &self.all;
        let endpoints = || {
            all.values()
                .map(|e| Arc::clone(&e.candidate.endpoint))
                .collect()
        };
        Arc::clone(self.endpoints.get_or_insert_with(endpoints))
    }

    /// What is special about some endpoints, by serial.
    pub(super) fn remarks(&self) -> HashMap<u64, &'static str> {
        self.iter()
            .filter(|entry| entry.last_resort)
            .map(|entry| {
                (
                    entry.candidate.endpoint.serial(),
                    "gone from the registry; picked because nobody else is left",
                )
            })
            .collect()
    }
}

fn takes_calls(instance: &Instance) -> bool {
    instance.status == Status::Serving
}

impl Entry {
    fn new(endpoint: Arc<Endpoint>) -> Self {
        let seen = endpoint.subchannel().state();
        Self {
            candidate: candidate(endpoint, &seen),
            seen,
            last_resort: false,
        }
    }

    pub(super) fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// The same instance says something else of itself now: it is there, so it is no last resort, and a backoff has no
    /// reason any more.
    fn now_says(&mut self, instance: Arc<Instance>) {
        self.last_resort = false;
        if **self.candidate.endpoint.instance() != *instance {
            self.candidate.endpoint.subchannel().retry_now();
            self.candidate.endpoint = Arc::new(self.candidate.endpoint.with(instance));
        }
    }

    fn refresh(&mut self) {
        let state = self.candidate.endpoint.subchannel().state();
        if !Arc::ptr_eq(&state, &self.seen) {
            self.candidate = candidate(Arc::clone(&self.candidate.endpoint), &state);
            self.seen = state;
        }
    }

    fn is_ready(&self) -> bool {
        self.candidate.state == ConnectivityState::Ready && self.candidate.endpoint.is_available()
    }
}

fn candidate(endpoint: Arc<Endpoint>, state: &SubchannelState) -> Candidate {
    Candidate {
        endpoint,
        state: state.connectivity,
        failure: state.failure.clone(),
    }
}
