//! The etcd backend: "another process" is another store, with connections of its own.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering},
};

use registry::{
    Store,
    backend::etcd::{EtcdOptions, EtcdStore},
};
use testkit::etcd::Cluster;
use tokio::sync::Mutex;

use crate::fixture::{Fixture, Spoiled};

/// Behaviours that run at the same time share one cluster, each in a namespace of its own; the last one ends it.
static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
static NAMESPACES: AtomicUsize = AtomicUsize::new(0);

/// A namespace, in which each watch has a stream of its own, or all share one.
pub(crate) struct Etcd<const SHARES: bool> {
    cluster: Arc<Cluster>,
    namespace: String,
}

impl<const SHARES: bool> Fixture for Etcd<SHARES> {
    async fn start() -> Self {
        let mut shared = SHARED.lock().await;
        let cluster = match shared.upgrade() {
            Some(cluster) => cluster,
            None => Arc::new(Cluster::start(3).await.expect("an etcd cluster")),
        };
        *shared = Arc::downgrade(&cluster);
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        Self {
            cluster,
            namespace: format!("test-{number}"),
        }
    }

    async fn open(&self) -> Arc<dyn Store> {
        let url = self.cluster.url(&self.namespace);
        let mut options: EtcdOptions = url.parse().expect("a URL");
        if SHARES {
            options = options.with_shared_watch().expect("a namespace");
        }
        Arc::new(EtcdStore::new(options))
    }
}

impl<const SHARES: bool> Spoiled for Etcd<SHARES> {
    async fn spoil(&self, service: &str, id: &str) {
        let key = format!("{}/{service}/{id}", self.namespace);
        let put = self.cluster.etcdctl(&["put", &key, "no instance"]).await;
        put.expect("it is put");
    }

    async fn spoil_document(&self, service: &str, text: &str) {
        let key = format!("{}/_service_config/{service}", self.namespace);
        let put = self.cluster.etcdctl(&["put", &key, text]).await;
        put.expect("it is put");
    }

    async fn spoil_intent(&self, service: &str, id: &str, text: &str) {
        let key = format!("{}/_intent/{service}/{id}", self.namespace);
        let put = self.cluster.etcdctl(&["put", &key, text]).await;
        put.expect("it is put");
    }
}
