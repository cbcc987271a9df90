//! Clusters, stores and instances.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::BoxStream};
use registry::{
    Address, Change, Claim, Hold, HoldRequest, Incarnation, Instance, Loss, ServiceName,
    Store as _, StoreError, backend::etcd::EtcdStore,
};
use testkit::etcd::Cluster;
use tokio::sync::Mutex;

/// Far more than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());

/// A cluster of three that tests share while they run at the same time, each with a service of its own.
pub(crate) async fn shared() -> Arc<Cluster> {
    let mut shared = SHARED.lock().await;
    let cluster = match shared.upgrade() {
        Some(cluster) => cluster,
        None => Arc::new(cluster(3).await),
    };
    *shared = Arc::downgrade(&cluster);
    cluster
}

/// A cluster of one test's own, to be broken.
pub(crate) async fn cluster(members: usize) -> Cluster {
    Cluster::start(members).await.expect("an etcd cluster")
}

pub(crate) fn store(cluster: &Cluster) -> EtcdStore {
    EtcdStore::new(cluster.url("").parse().expect("a URL"))
}

/// A store that knows one member only.
pub(crate) fn store_of_member(cluster: &Cluster, member: usize) -> EtcdStore {
    let endpoint = &cluster.endpoints()[member];
    EtcdStore::new(format!("etcd://{endpoint}").parse().expect("a URL"))
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a service name")
}

pub(crate) fn instance(name: &str, port: u16) -> Instance {
    let address = Address::new(&format!("10.0.0.7:{port}")).expect("an address");
    Instance::new(service(name), address).with_incarnation(Incarnation::random())
}

pub(crate) fn request(instance: &Instance, ttl: u64) -> HoldRequest {
    HoldRequest {
        instance: instance.clone(),
        ttl: Duration::from_secs(ttl),
        claim: Claim::First,
    }
}

pub(crate) async fn hold(store: &EtcdStore, instance: &Instance, ttl: u64) -> Box<dyn Hold> {
    store.hold(request(instance, ttl)).await.expect("a hold")
}

pub(crate) async fn lost(hold: &mut Box<dyn Hold>) -> Loss {
    soon("a loss", hold.lost()).await
}

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

pub(crate) type Watch = BoxStream<'static, Result<Change, StoreError>>;

/// What a watch tells next.
pub(crate) async fn next(watch: &mut Watch) -> Result<Change, StoreError> {
    soon("an item", watch.next()).await.expect("an item")
}

pub(crate) async fn listed(store: &EtcdStore, name: &str) -> usize {
    store.list(&service(name)).await.expect("a list").len()
}

pub(crate) async fn etcdctl(cluster: &Cluster, arguments: &[&str]) -> String {
    cluster
        .etcdctl_text(arguments)
        .await
        .expect("etcdctl works")
}

/// Revokes every lease of the cluster, as an operator might.
pub(crate) async fn revoke_every_lease(cluster: &Cluster) {
    let leases = etcdctl(cluster, &["lease", "list"]).await;
    for lease in leases.lines().skip(1) {
        etcdctl(cluster, &["lease", "revoke", lease]).await;
    }
}
