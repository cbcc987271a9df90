//! The façade: register, watch, list, documents.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use crate::{
    Document, DocumentWatch, Instance, Reconciled, Registration, ServiceName, Snapshot,
    SnapshotWatch, Store, StoreError, document::DocumentReflector, reflector::Reflector,
};

/// A registry, whatever keeps it. Cheap to clone; clones share one reflector for each service, and one for its document.
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
    reflectors: Running<Reflector>,
    documents: Running<DocumentReflector>,
}

impl Registry {
    /// The registry that `store` keeps.
    pub fn new(store: impl Store) -> Self {
        Self {
            store: Arc::new(store),
            reflectors: Running::default(),
            documents: Running::default(),
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
        SnapshotWatch::new(self.reflectors.of(service, || {
            Reflector::start(Arc::clone(&self.store), service.clone())
        }))
    }

    /// All instances of a service, read from the registry now.
    pub async fn list(&self, service: &ServiceName) -> Result<Snapshot, StoreError> {
        self.store.list(service).await
    }

    /// Follows a service's document: its service config, which is opaque here.
    ///
    /// ```
    /// use registry::{Document, Registry, ServiceName, backend::memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = Registry::new(MemoryStore::new());
    /// let greeter = ServiceName::new("greeter")?;
    /// let mut watch = registry.document(&greeter);
    /// assert_eq!(watch.first().await, None);
    ///
    /// let config = Document::new(r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#)?;
    /// registry.set_document(&greeter, config.clone()).await?;
    /// assert_eq!(watch.changed().await.document, Some(config));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn document(&self, service: &ServiceName) -> DocumentWatch {
        DocumentWatch::new(self.documents.of(service, || {
            DocumentReflector::start(Arc::clone(&self.store), service.clone())
        }))
    }

    /// A service's document, read from the registry now; `None` when there is none.
    pub async fn read_document(
        &self,
        service: &ServiceName,
    ) -> Result<Option<Document>, StoreError> {
        self.store.read_document(service).await
    }

    /// Puts a service's document in place of what was there: all who follow it are told. The service needs no instance.
    ///
    /// Cancelled, or after an error, it may have been written or not.
    pub async fn set_document(
        &self,
        service: &ServiceName,
        document: Document,
    ) -> Result<(), StoreError> {
        self.store.set_document(service, document).await
    }

    /// Takes a service's document away, if there is one. Cancelled, or after an error, it may be gone or not.
    pub async fn delete_document(&self, service: &ServiceName) -> Result<(), StoreError> {
        self.store.delete_document(service).await
    }

    /// How many values this process has skipped because they are no instances, each revision of each counted once.
    pub fn undecodable(&self) -> u64 {
        self.store.undecodable()
    }

    /// How often a file that the registry is secured by (a certificate, a key) had changed and could not be used; what was
    /// in force before still is.
    pub fn refused_files(&self) -> u64 {
        self.store.refused_files()
    }

    /// How often what running watches told was compared with what is there, and with which result.
    pub fn reconciled(&self) -> Reconciled {
        self.store.reconciled()
    }

    /// The names of all services that have an instance, in order.
    pub async fn services(&self) -> Result<Vec<ServiceName>, StoreError> {
        self.store.services().await
    }
}

/// What follows something of a service, for as long as anybody asks: one for each service.
#[derive(Debug)]
struct Running<T>(Arc<Mutex<HashMap<ServiceName, Weak<T>>>>);

impl<T> Running<T> {
    /// The one that runs for `service`, or a new one.
    fn of(&self, service: &ServiceName, start: impl FnOnce() -> T) -> Arc<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = all.get(service).and_then(Weak::upgrade) {
            return running;
        }
        all.retain(|_, other| other.strong_count() > 0);
        let started = Arc::new(start());
        all.insert(service.clone(), Arc::downgrade(&started));
        started
    }
}

impl<T> Clone for Running<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Running<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S: Store> From<S> for Registry {
    fn from(store: S) -> Self {
        Self::new(store)
    }
}
