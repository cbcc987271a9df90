//! The one task that keeps a channel's endpoints: follows the resolution and the subchannels, and publishes pickers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use registry::{BackoffPolicy, Freshness, Instance, InstanceId};
use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep},
};

use super::{Published, Shared, explain::EndpointStatus};
use crate::{
    endpoint::Endpoint,
    policy::{Candidate, Failing, Picker, Plan, Policy, Queueing},
    resolver::{Resolution, Resolved, Unresolved},
    status::Status,
    subchannel::{ConnectivityState, Subchannel, SubchannelState},
};

/// Pickers are rebuilt at most this often, however many endpoints change.
const REBUILD_INTERVAL: Duration = Duration::from_millis(10);
/// The longest wait between two tries to connect an instance that its registry says lives.
const REGISTERED_BACKOFF: Duration = Duration::from_secs(2);

pub(super) struct Driver {
    shared: Arc<Shared>,
    resolution: Resolution,
    policy: Box<dyn Policy>,
    entries: BTreeMap<InstanceId, Entry>,
    unresolved: Option<Unresolved>,
    freshness: Freshness,
    /// Some subchannel has changed.
    changed: Arc<Notify>,
    serial: u64,
}

struct Entry {
    serial: u64,
    endpoint: Arc<Endpoint>,
    subchannel: Subchannel,
    /// Nobody else is left: the registry has dropped it, and it serves while its connection lasts.
    last_resort: bool,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        resolution: Resolution,
        policy: Box<dyn Policy>,
    ) -> Self {
        Self {
            shared,
            resolution,
            policy,
            entries: BTreeMap::new(),
            unresolved: Some(Unresolved::NotYet),
            freshness: Freshness::Starting,
            changed: Arc::default(),
            serial: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let resolved = self.resolution.now();
        self.resolved(resolved);
        let mut called = false;
        loop {
            self.rebuild(called);
            sleep(REBUILD_INTERVAL).await;
            called = select! {
                resolved = self.resolution.changed() => {
                    self.resolved(resolved);
                    false
                }
                () = self.changed.notified() => false,
                () = self.shared.called.notified() => true,
            };
        }
    }

    fn resolved(
        &mut self,
        Resolved {
            instances,
            freshness,
        }: Resolved,
    ) {
        self.freshness = freshness;
        match instances {
            Ok(instances) => {
                self.unresolved = None;
                self.replace(instances);
            }
            Err(unresolved) => {
                if let Unresolved::Nobody(_) = unresolved {
                    self.keep_last_resorts();
                }
                self.unresolved = Some(unresolved);
            }
        }
    }

    /// Makes the endpoints those of `instances`; who stays keeps its connection and its statistics.
    ///
    /// A last resort stays one until one of them is ready.
    fn replace(&mut self, instances: Vec<Arc<Instance>>) {
        let mut before = std::mem::take(&mut self.entries);
        for instance in instances {
            let id = instance.id.clone();
            let kept = before
                .remove(&id)
                .filter(|entry| entry.endpoint.is_still(&instance));
            let entry = match kept {
                Some(entry) => entry.with(instance),
                None => self.start(instance),
            };
            self.entries.insert(id, entry);
        }
        self.entries
            .extend(before.into_iter().filter(|(_, entry)| entry.last_resort));
    }

    fn start(&mut self, instance: Arc<Instance>) -> Entry {
        self.serial += 1;
        let subchannel = Subchannel::start(
            Arc::clone(instance.addresses()),
            backoff(self.resolution.registered),
            Arc::clone(&self.changed),
        );
        Entry {
            serial: self.serial,
            endpoint: Arc::new(Endpoint::new(instance)),
            subchannel,
            last_resort: false,
        }
    }

    /// The registry says that nobody is left. Whoever is still connected serves on: a list that went empty is more
    /// often a fault than the end of a service, and a call that fails is worse than one that is served by a leaver.
    fn keep_last_resorts(&mut self) {
        for entry in self.entries.values_mut() {
            entry.last_resort = true;
        }
    }

    fn rebuild(&mut self, called: bool) {
        let others_serve = self
            .entries
            .values()
            .any(|entry| !entry.last_resort && entry.is_ready());
        let is_needed = |entry: &Entry| entry.is_ready() && !others_serve;
        self.entries
            .retain(|_, entry| !entry.last_resort || is_needed(entry));
        let candidates: Vec<Candidate> = self.entries.values().map(Entry::candidate).collect();
        let plan = self.plan(&candidates, called);
        let entries: Vec<&Entry> = self.entries.values().collect();
        plan.connect
            .iter()
            .for_each(|place| entries[*place].subchannel.connect());
        plan.rest
            .iter()
            .for_each(|place| entries[*place].subchannel.rest());
        self.publish(plan);
    }

    fn plan(&mut self, candidates: &[Candidate], called: bool) -> Plan {
        if !candidates.is_empty() {
            return self.policy.plan(candidates, called);
        }
        let fail =
            |message: String| Arc::new(Failing(Status::unavailable(message))) as Arc<dyn Picker>;
        let (state, picker) = match &self.unresolved {
            // The driver is started with this, and an empty list of instances is not a resolution.
            None | Some(Unresolved::NotYet) => (
                ConnectivityState::Connecting,
                Arc::new(Queueing) as Arc<dyn Picker>,
            ),
            Some(Unresolved::Failed(cause)) => {
                (ConnectivityState::TransientFailure, fail(cause.to_string()))
            }
            Some(Unresolved::Nobody(says)) => {
                (ConnectivityState::TransientFailure, fail(says.clone()))
            }
        };
        Plan {
            state,
            picker,
            connect: Vec::new(),
            rest: Vec::new(),
        }
    }

    fn publish(&self, Plan { state, picker, .. }: Plan) {
        let endpoints = self.entries.values().map(Entry::status).collect();
        let freshness = self.freshness.clone();
        self.shared.published.store(Arc::new(Published {
            state,
            picker,
            endpoints,
            freshness,
        }));
        self.shared.generation.send_replace(());
        self.shared.state.send_if_modified(|before| {
            let changed = *before != state;
            if changed {
                tracing::debug!(channel = %self.shared.target, from = %before, to = %state, "channel state");
            }
            *before = state;
            changed
        });
    }
}

impl Entry {
    /// The same entry with what its instance says of itself now: it is there, so it is no last resort, and a backoff
    /// has no reason any more when it has changed.
    fn with(self, instance: Arc<Instance>) -> Self {
        if self.endpoint.instance == instance {
            return Self {
                last_resort: false,
                ..self
            };
        }
        self.subchannel.retry_now();
        Self {
            endpoint: Arc::new(self.endpoint.with(instance)),
            last_resort: false,
            ..self
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.subchannel.state().0, SubchannelState::Ready(connection) if connection.is_open())
    }

    fn candidate(&self) -> Candidate {
        let (state, _since) = self.subchannel.state();
        Candidate {
            serial: self.serial,
            endpoint: Arc::clone(&self.endpoint),
            state,
        }
    }

    fn status(&self) -> EndpointStatus {
        let (state, since): (SubchannelState, Instant) = self.subchannel.state();
        EndpointStatus {
            endpoint: Arc::clone(&self.endpoint),
            state,
            since,
            last_resort: self.last_resort,
        }
    }
}

/// gRPC's connection backoff; shorter where a registry vouches that the instance lives.
fn backoff(registered: bool) -> BackoffPolicy {
    if registered {
        BackoffPolicy::GRPC.capped(REGISTERED_BACKOFF)
    } else {
        BackoffPolicy::GRPC
    }
}

#[cfg(test)]
mod tests {
    use registry::Backoff;

    use super::{BackoffPolicy, Duration, backoff};

    #[tokio::test]
    async fn an_instance_whose_registry_says_that_it_lives_is_tried_each_two_seconds_at_least() {
        let mut waits = Backoff::new(backoff(true));
        assert!((0..100).all(|_| waits.next_delay() <= Duration::from_secs(2)));
        assert_eq!(backoff(false), BackoffPolicy::GRPC);
    }
}
