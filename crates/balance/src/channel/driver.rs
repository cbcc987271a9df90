//! The one task that keeps a channel's endpoints: follows the resolution and the subchannels, and publishes pickers.

use std::{sync::Arc, time::Duration};

use registry::{BackoffPolicy, Freshness};
use tokio::{runtime::Handle, select, sync::Notify, time::sleep};

use super::{
    Published, Shared,
    entries::{Entries, Entry},
};
use crate::{
    policy::{Candidate, Endpoints, Plan, Policy},
    resolver::{Resolution, Resolved, Unresolved},
    status::Status,
    subchannel::SubchannelContext,
};

/// Pickers are rebuilt at most this often, however many endpoints change.
const REBUILD_INTERVAL: Duration = Duration::from_millis(10);
/// The longest wait between two tries to connect an instance that its registry says lives.
const REGISTERED_BACKOFF: Duration = Duration::from_secs(2);

pub(super) struct Driver {
    shared: Arc<Shared>,
    resolution: Resolution,
    policy: Box<dyn Policy>,
    entries: Entries,
    unresolved: Option<Unresolved>,
    freshness: Freshness,
    /// Some subchannel has changed.
    changed: Arc<Notify>,
}

impl Driver {
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn new(
        shared: Arc<Shared>,
        resolution: Resolution,
        policy: Box<dyn Policy>,
    ) -> Self {
        let changed = Arc::new(Notify::new());
        let context = SubchannelContext {
            backoff: backoff(resolution.registered),
            connect: shared.connect.clone(),
            runtime: Handle::current(),
            changed: Arc::clone(&changed),
        };
        Self {
            shared,
            resolution,
            policy,
            entries: Entries::new(Arc::new(context)),
            unresolved: Some(Unresolved::NotYet),
            freshness: Freshness::Starting,
            changed,
        }
    }

    pub(super) async fn run(mut self) {
        let resolved = self.resolution.now();
        self.resolved(resolved);
        loop {
            self.rebuild();
            sleep(REBUILD_INTERVAL).await;
            select! {
                resolved = self.resolution.changed() => self.resolved(resolved),
                () = self.changed.notified() => {}
            };
        }
    }

    fn resolved(&mut self, resolved: Resolved) {
        self.freshness = resolved.freshness;
        match resolved.instances {
            Ok(snapshot) => {
                self.entries.follow(snapshot);
                self.unresolved = None;
            }
            Err(unresolved) => self.unresolved = Some(unresolved),
        }
    }

    fn rebuild(&mut self) {
        self.entries.refresh();
        let plan = self.plan();
        for endpoint in &plan.connect {
            endpoint.subchannel().connect();
        }
        for endpoint in &plan.rest {
            endpoint.subchannel().rest();
        }
        self.publish(plan);
    }

    fn plan(&mut self) -> Plan {
        let candidates: Vec<&Candidate> = self.entries.iter().map(Entry::candidate).collect();
        if !candidates.is_empty() {
            return self.policy.plan(&Endpoints::new(&candidates));
        }
        match &self.unresolved {
            Some(Unresolved::NotYet) => Plan::connecting(),
            Some(Unresolved::Failed(cause)) => {
                Plan::failing(Status::unavailable(cause.to_string()))
            }
            None => Plan::failing(Status::unavailable(
                self.resolution.nobody(self.entries.listed()),
            )),
        }
    }

    fn publish(&mut self, Plan { state, picker, .. }: Plan) {
        self.shared.published.store(Arc::new(Published {
            picker,
            endpoints: self.entries.endpoints(),
            remarks: self.entries.remarks(),
            freshness: self.freshness.clone(),
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
