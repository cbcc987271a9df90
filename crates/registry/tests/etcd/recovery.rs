//! What becomes of a whole cluster's faults above the store: instances come back, and callers see no emptiness that an
//! error made.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use registry::{
    Change, Registration, RegistrationState, Registry, Snapshot, SnapshotWatch, Store as _,
    backend::etcd::EtcdStore,
};
use testkit::{etcd::Cluster, eventually};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{PATIENCE, cluster, instance, revoke_every_lease, service, soon, store};

const TTL: Duration = Duration::from_secs(2);
const INSTANCES: u16 = 5;

/// Some instances, registered by one process and watched by another.
struct Fleet {
    registrations: Vec<Registration>,
    watch: SnapshotWatch,
    /// The fewest instances that any update has left since all were there.
    fewest: Arc<AtomicUsize>,
    _watcher: AbortOnDropHandle<()>,
}

impl Fleet {
    async fn start(cluster: &Cluster) -> Self {
        let (owner, caller) = (Registry::new(store(cluster)), Registry::new(store(cluster)));
        let registrations: Vec<_> = (1..=INSTANCES)
            .map(|port| owner.register(instance("fleet", port), TTL))
            .collect();
        let mut watch = caller.watch(&service("fleet"));
        all_seen(&mut watch).await;
        let fewest = Arc::new(AtomicUsize::new(usize::MAX));
        let watcher = tokio::spawn(note_the_fewest(store(cluster), Arc::clone(&fewest)));
        eventually(PATIENCE, "the watcher's first list", async || {
            fewest.load(Ordering::SeqCst) == usize::from(INSTANCES)
        })
        .await;
        Self {
            registrations,
            watch,
            fewest,
            _watcher: AbortOnDropHandle::new(watcher),
        }
    }

    /// Waits until every registration has been without a hold, or the watcher without an instance.
    async fn lost(&self) {
        for registration in &self.registrations {
            let mut states = registration.states();
            let lost = states.wait_for(|state| matches!(state, RegistrationState::Retrying { .. }));
            soon("a loss", lost).await.expect("it goes on");
        }
    }

    async fn held(&mut self) {
        for registration in &self.registrations {
            let mut states = registration.states();
            let held = states.wait_for(|state| matches!(state, RegistrationState::Held { .. }));
            soon("a hold", held).await.expect("it goes on");
        }
        all_seen(&mut self.watch).await;
    }

    fn fewest(&self) -> usize {
        self.fewest.load(Ordering::SeqCst)
    }
}

async fn all_seen(watch: &mut SnapshotWatch) {
    let all = async {
        let is_whole = |watch: &SnapshotWatch| {
            watch
                .view()
                .snapshot
                .is_some_and(|all| all.len() == usize::from(INSTANCES))
        };
        while !is_whole(watch) {
            watch.changed().await;
        }
    };
    soon("all instances", all).await;
}

/// Applies each update by itself: whoever follows snapshots does not see what went and came back in between.
async fn note_the_fewest(store: EtcdStore, fewest: Arc<AtomicUsize>) {
    let mut snapshot = Snapshot::empty(service("fleet"));
    loop {
        let mut watch = store.watch(&service("fleet"));
        while let Some(Ok(Change { revision, updates })) = watch.next().await {
            for update in updates {
                let updates = vec![update];
                snapshot = snapshot.apply(Change { revision, updates });
                fewest.fetch_min(snapshot.len(), Ordering::SeqCst);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn instances_come_back_after_etcd_was_down_for_longer_than_their_ttl() {
    let mut cluster = cluster(3).await;
    let mut fleet = Fleet::start(&cluster).await;
    cluster.stop_all().await.expect("all are killed");
    fleet.lost().await;
    cluster.start_all().await.expect("all are started");
    fleet.held().await;
    // The leases from before the outage end now; what is registered has new ones.
    let calm = tokio::time::timeout(TTL * 2, fleet.lost()).await;
    assert!(calm.is_err(), "they were lost once more");
    assert!(
        fleet.fewest() >= usize::from(INSTANCES),
        "an outage removes nobody"
    );
}

#[tokio::test]
async fn instances_come_back_after_etcd_was_wiped() {
    let mut cluster = cluster(3).await;
    let mut fleet = Fleet::start(&cluster).await;
    cluster.wipe().await.expect("it is wiped");
    fleet.held().await;
    // What comes after the wipe is seen too.
    let newcomer = Registry::new(store(&cluster)).register(instance("fleet", 99), TTL);
    let seen = async {
        while fleet
            .watch
            .view()
            .snapshot
            .is_none_or(|all| all.len() <= usize::from(INSTANCES))
        {
            fleet.watch.changed().await;
        }
    };
    soon("the newcomer", seen).await;
    newcomer.deregister().await.expect("it is ours");
}

#[tokio::test]
async fn instances_come_back_after_every_lease_was_revoked() {
    let cluster = cluster(1).await;
    let mut fleet = Fleet::start(&cluster).await;
    let mut states: Vec<_> = fleet
        .registrations
        .iter()
        .map(Registration::states)
        .collect();
    for states in &mut states {
        states.mark_unchanged();
    }
    revoke_every_lease(&cluster).await;
    for states in &mut states {
        soon("a loss", states.changed()).await.expect("it goes on");
    }
    fleet.held().await;
}

#[tokio::test]
async fn callers_see_every_instance_while_the_leader_dies() {
    let mut cluster = cluster(3).await;
    let mut fleet = Fleet::start(&cluster).await;
    let leader = cluster.leader().await.expect("a leader");
    cluster.kill(leader).await.expect("it is killed");
    cluster.leader().await.expect("another leader");
    fleet.held().await;
    cluster.restart(leader).await.expect("it is started");
    fleet.held().await;
    assert!(
        fleet.fewest() >= usize::from(INSTANCES),
        "nobody was removed"
    );
}
