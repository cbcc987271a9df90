//! What a backend brings to the suite, and the instances that the behaviours hold.

use std::{sync::Arc, time::Duration};

use registry::{
    Address, Claim, Document, Hold, HoldRequest, Incarnation, Instance, InstanceId, ServiceName,
    Store,
};

/// How long a behaviour waits for what must come; far more than any backend needs on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One registry, empty at first, that ends with the value.
pub(crate) trait Fixture: Sized {
    /// A new registry that shares nothing with any other fixture's.
    async fn start() -> Self;

    /// A handle on this registry as another process has it: nothing is shared with other handles but the registry.
    async fn open(&self) -> Arc<dyn Store>;
}

/// A registry with certain instances in it, to be read.
pub(crate) trait Readable: Sized {
    /// A new registry that holds just these.
    async fn showing(instances: &[Instance]) -> Self;

    /// A handle on it that has had no part in putting them there.
    fn reader(&self) -> &dyn Store;
}

/// What any registry shows while its instances are held.
pub(crate) struct Held<F> {
    reader: Arc<dyn Store>,
    _holds: Vec<Box<dyn Hold>>,
    _registry: F,
}

impl<F: Fixture> Readable for Held<F> {
    async fn showing(instances: &[Instance]) -> Self {
        let registry = F::start().await;
        let (owner, reader) = (registry.open().await, registry.open().await);
        let mut holds = Vec::new();
        for instance in instances {
            holds.push(hold(&*owner, instance).await);
        }
        Self {
            reader,
            _holds: holds,
            _registry: registry,
        }
    }

    fn reader(&self) -> &dyn Store {
        &*self.reader
    }
}

/// A registry that anybody may write to.
pub(crate) trait Spoiled: Fixture {
    /// Puts what is no instance where the instance of that id of a service would be.
    async fn spoil(&self, service: &str, id: &str);

    /// Puts a text where the document of a service would be, whatever its length.
    async fn spoil_document(&self, service: &str, text: &str);

    /// Puts a text where the intent for the instance of that id of a service would be.
    async fn spoil_intent(&self, service: &str, id: &str, text: &str);
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a service name")
}

pub(crate) fn document(text: &str) -> Document {
    Document::new(text).expect("a document")
}

pub(crate) fn id(id: &str) -> InstanceId {
    InstanceId::new(id).expect("an instance id")
}

/// An instance of `service` of a new incarnation, at 10.0.0.1 and `port`.
pub(crate) fn instance(service_name: &str, port: u16) -> Instance {
    let address = Address::new(&format!("10.0.0.1:{port}")).expect("an address");
    Instance::new(service(service_name), address).with_incarnation(Incarnation::random())
}

pub(crate) fn request(instance: &Instance, claim: Claim) -> HoldRequest {
    HoldRequest {
        instance: instance.clone(),
        ttl: Duration::from_secs(10),
        claim,
    }
}

/// Holds `instance` as a process does that has just started.
pub(crate) async fn hold(store: &dyn Store, instance: &Instance) -> Box<dyn Hold> {
    store
        .hold(request(instance, Claim::First))
        .await
        .expect("a first claim succeeds")
}

/// What `future` gives, within the suite's patience.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// The ids that `store` lists for a service, in order.
pub(crate) async fn listed(store: &dyn Store, service_name: &str) -> Vec<String> {
    let service = service(service_name);
    let snapshot = store.list(&service).await.expect("a list");
    assert_eq!(snapshot.service(), &service);
    snapshot.instances().map(|i| i.id.to_string()).collect()
}
