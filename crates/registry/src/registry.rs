//! The façade: register, watch, list.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use crate::{
    Instance, Registration, ServiceName, Snapshot, SnapshotWatch, Store, StoreError,
    reflector::Reflector,
};

/// A registry, whatever keeps it. Cheap to clone; clones share one reflector for each service.
///
/// ```
/// use registry::{Address, Instance, Registry, ServiceName, backend::memory::MemoryStore};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = Registry::new(MemoryStore::new());
/// let greeter = ServiceName::new("greeter")?;
/// let instance = Instance::new(greeter.clone(), Address::new("10.0.0.7:50051")?);
///
/// let registration = registry.register(instance, Duration::from_secs(10));
/// let mut watch = registry.watch(&greeter);
/// while watch.view().snapshot.is_none_or(|snapshot| snapshot.is_empty()) {
///     watch.changed().await;
/// }
/// registration.deregister().await?;
/// assert!(registry.list(&greeter).await?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Registry {
    store: Arc<dyn Store>,
    reflectors: Arc<Mutex<HashMap<ServiceName, Weak<Reflector>>>>,
}

impl Registry {
    /// The registry that `store` keeps.
    pub fn new(store: impl Store) -> Self {
        Self {
            store: Arc::new(store),
            reflectors: Arc::default(),
        }
    }

    /// Its URL without secrets, for logs and messages.
    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// Holds `instance` in the registry from now on, and again whenever the hold is lost. Returns at once: whether it
    /// is held yet is told by [`Registration::state`]. `ttl` is how long the registry keeps the instance when this
    /// process is not heard of any more.
    ///
    /// An instance without an incarnation is given one.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn register(&self, instance: Instance, ttl: Duration) -> Registration {
        Registration::start(Arc::clone(&self.store), instance, ttl)
    }

    /// Follows a service.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn watch(&self, service: &ServiceName) -> SnapshotWatch {
        let mut reflectors = self
            .reflectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = reflectors.get(service).and_then(Weak::upgrade) {
            return SnapshotWatch::new(running);
        }
        reflectors.retain(|_, reflector| reflector.strong_count() > 0);
        let started = Arc::new(Reflector::start(Arc::clone(&self.store), service.clone()));
        reflectors.insert(service.clone(), Arc::downgrade(&started));
        SnapshotWatch::new(started)
    }

    /// All instances of a service, read from the registry now.
    pub async fn list(&self, service: &ServiceName) -> Result<Snapshot, StoreError> {
        self.store.list(service).await
    }

    /// How many values this process has skipped because they are no instances, each revision of each counted once.
    pub fn undecodable(&self) -> u64 {
        self.store.undecodable()
    }

    /// The names of all services that have an instance, in order.
    pub async fn services(&self) -> Result<Vec<ServiceName>, StoreError> {
        self.store.services().await
    }
}

impl<S: Store> From<S> for Registry {
    fn from(store: S) -> Self {
        Self::new(store)
    }
}
