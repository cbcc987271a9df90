//! The etcd backend: "another process" is another store, with connections of its own.

use std::{
    marker::PhantomData,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use registry::{
    Store,
    backend::etcd::{EtcdOptions, EtcdStore},
    dialect::{DialectName, Dialects},
};
use testkit::etcd::Cluster;
use tokio::sync::Mutex;

use crate::fixture::{Fixture, Spoiled};

/// Behaviours that run at the same time share one cluster, each in a namespace of its own; the last one ends it.
static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
static NAMESPACES: AtomicUsize = AtomicUsize::new(0);

/// How the stores of a namespace are set up.
pub(crate) trait Setup: Send + Sync {
    fn applied_to(options: EtcdOptions) -> EtcdOptions;
}

/// Each watch has a stream of its own.
pub(crate) struct Own;

impl Setup for Own {
    fn applied_to(options: EtcdOptions) -> EtcdOptions {
        options
    }
}

/// All watches share one.
pub(crate) struct Shared;

impl Setup for Shared {
    fn applied_to(options: EtcdOptions) -> EtcdOptions {
        options.with_shared_watch().expect("a namespace")
    }
}

/// Instances have keys in further dialects, one that has its keys elsewhere and one that has them in the same place.
pub(crate) struct Several;

impl Setup for Several {
    fn applied_to(options: EtcdOptions) -> EtcdOptions {
        let names = [DialectName::Etcd, DialectName::Kratos, DialectName::GoZero];
        options.with_dialects(Dialects::new(names).expect("they go together"))
    }
}

pub(crate) type OwnWatches = Etcd<Own>;
pub(crate) type SharedWatch = Etcd<Shared>;
pub(crate) type SeveralDialects = Etcd<Several>;

/// A namespace.
pub(crate) struct Etcd<S> {
    cluster: Arc<Cluster>,
    namespace: String,
    setup: PhantomData<S>,
}

impl<S: Setup> Fixture for Etcd<S> {
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
            setup: PhantomData,
        }
    }

    async fn open(&self) -> Arc<dyn Store> {
        let url = self.cluster.url(&self.namespace);
        let options = S::applied_to(url.parse().expect("a URL"));
        Arc::new(EtcdStore::new(options))
    }
}

impl<S: Setup> Spoiled for Etcd<S> {
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
