//! The etcd backend: "another process" is another store, with connections of its own.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering},
};

use registry::{Store, backend::etcd::EtcdStore};
use testkit::etcd::Cluster;
use tokio::sync::Mutex;

use crate::fixture::{Fixture, Spoiled};

/// Behaviours that run at the same time share one cluster, each in a namespace of its own; the last one ends it.
static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
static NAMESPACES: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct Etcd {
    cluster: Arc<Cluster>,
    namespace: String,
}

impl Fixture for Etcd {
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
        Arc::new(EtcdStore::new(url.parse().expect("a URL")))
    }
}

impl Spoiled for Etcd {
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
