//! The façade: register, watch, list, documents, intents.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::try_join;

use crate::{
    Claim, Document, DocumentWatch, Incarnation, Instance, InstanceId, Intent, Intents, Member,
    Placement, Reconciled, Registration, ServiceName, Snapshot, SnapshotWatch, Store, StoreError,
    cache::Cache,
    document::DocumentReflector,
    intent::{IntentFollower, Merged},
    reflector::Reflector,
    tls::Validity,
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
    cache: Option<Cache>,
    reflectors: Running<Reflector>,
    intents: Running<IntentFollower>,
    documents: Running<DocumentReflector>,
}

impl Registry {
    /// The registry that `store` keeps.
    pub fn new(store: impl Store) -> Self {
        Self {
            store: Arc::new(store),
            cache: None,
            reflectors: Running::default(),
            intents: Running::default(),
            documents: Running::default(),
        }
    }

    /// The same registry with a directory in which to keep what is known of each service that is
    /// [followed](Self::watch), for a process that starts while the registry cannot be reached.
    ///
    /// Such a process knows at once what was known last, as [stale](crate::Freshness::Stale), until the registry has
    /// answered. One that answers within 0.3 s is all that is shown. So it is with [documents](Self::document).
    ///
    /// The directory is made with mode 0700 when something is kept first, the files in it have mode 0600, and each is
    /// written at most once a second, whole. Several processes and registries may share it: what is in it is told apart by
    /// the registry's URL. A file that is none, or that belongs to somebody else, is ignored with a warning; where nothing
    /// can be written, that is said once and all else goes on.
    ///
    /// To be called before anything is followed: clones from before have no cache.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = registry::connect("etcd://10.0.0.1:2379")?.with_cache("/var/cache/discovery");
    /// let mut watch = registry.watch(&registry::ServiceName::new("greeter")?);
    /// println!("{:?}, {:?}", watch.first().await, watch.view().freshness);
    /// # Ok(()) }
    /// ```
    pub fn with_cache(self, directory: impl AsRef<Path>) -> Self {
        let cache = Cache::new(directory.as_ref(), self.store.url());
        Self {
            cache: Some(cache),
            reflectors: Running::default(),
            documents: Running::default(),
            ..self
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
    /// The instance is given an incarnation of its own, whatever one it has. What an operator [wants](Instance::intent) of
    /// one that was read is not registered with it: it is in the registry already. When the registry has lost that since (it
    /// was wiped, or an old backup was restored), the registration remembers it: it says so beside what the instance says of
    /// itself, and readers go by it until an operator wants something else or [takes it back](Self::clear_intent).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn register(&self, instance: Instance, ttl: Duration) -> Registration {
        // Of two who register one instance that they have read, one is the later.
        self.start(instance, ttl, Claim::First, Incarnation::random())
    }

    /// The same where nobody has registered the instance. Where somebody has, that one is left alone, and the registration
    /// ends as [`Superseded`](crate::RegistrationState::Superseded).
    ///
    /// For who registers on behalf of others. An instance that has an incarnation keeps it here: so that an owner who comes
    /// back, and is still there, does not give way to itself.
    ///
    /// ```
    /// # use registry::{Address, Instance, Registry, RegistrationState, ServiceName, backend::memory::MemoryStore};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (registry, ttl) = (Registry::new(MemoryStore::new()), Duration::from_secs(10));
    /// let instance = Instance::new(ServiceName::new("greeter")?, Address::new("10.0.0.7:50051")?);
    /// let on_behalf = registry.register_if_absent(instance.clone(), ttl);
    /// on_behalf.states().wait_for(RegistrationState::is_held).await?;
    ///
    /// let itself = registry.register(instance.clone(), ttl);
    /// itself.states().wait_for(RegistrationState::is_held).await?;
    /// let late = registry.register_if_absent(instance, ttl);
    /// for gives_way in [on_behalf, late] {
    ///     let is_over = |state: &_| matches!(state, RegistrationState::Superseded { .. });
    ///     gives_way.states().wait_for(is_over).await?;
    /// }
    /// assert!(itself.state().is_held());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn register_if_absent(&self, instance: Instance, ttl: Duration) -> Registration {
        let holder = instance.incarnation.unwrap_or_else(Incarnation::random);
        self.start(instance, ttl, Claim::IfAbsent, holder)
    }

    fn start(
        &self,
        instance: Instance,
        ttl: Duration,
        claim: Claim,
        holder: Incarnation,
    ) -> Registration {
        let intents = self.follow_intents(&instance.service);
        let store = Arc::clone(&self.store);
        Registration::start(store, intents, instance.itself(), ttl, claim, holder)
    }

    /// Follows a service: its instances, each with the status and the weight that an operator
    /// [wants](Self::set_intent) where one does.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn watch(&self, service: &ServiceName) -> SnapshotWatch {
        SnapshotWatch::new(self.reflectors.of(service, || {
            let intents = self.follow_intents(service);
            let store = Arc::clone(&self.store);
            Reflector::start(store, intents, self.cache.clone(), service.clone())
        }))
    }

    fn follow_intents(&self, service: &ServiceName) -> Arc<IntentFollower> {
        self.intents.of(service, || {
            IntentFollower::start(Arc::clone(&self.store), service.clone())
        })
    }

    /// All instances of a service, read from the registry now, each with the status and the weight that an operator
    /// [wants](Self::set_intent) where one does.
    pub async fn list(&self, service: &ServiceName) -> Result<Snapshot, StoreError> {
        let read = try_join(self.store.list(service), self.store.list_intents(service));
        let (snapshot, intents) = read.await?;
        Ok(Merged::new(snapshot, intents).into_snapshot())
    }

    /// Each place that describes an instance of a service, as it says itself, read from the registry now: in etcd one for each
    /// dialect, with its lease.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = registry::connect("etcd://10.0.0.1:2379")?;
    /// for place in registry.placements(&registry::ServiceName::new("greeter")?).await? {
    ///     println!("{:?}: {:?}", place.instance.origin(), place.lease.map(|lease| lease.remaining));
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn placements(&self, service: &ServiceName) -> Result<Vec<Placement>, StoreError> {
        self.store.placements(service).await
    }

    /// Says what is wanted of an instance, from now on and until it is [taken back](Self::clear_intent), in place of what
    /// was wanted: it wins over what the instance says of itself, and over all that the instance comes to say. The instance
    /// need not be there.
    ///
    /// All who follow the service are told. Cancelled, or after an error, it may have been written or not.
    ///
    /// ```
    /// use registry::{Address, Instance, Intent, Registry, ServiceName, Status, backend::memory::MemoryStore};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = Registry::new(MemoryStore::new());
    /// let greeter = ServiceName::new("greeter")?;
    /// let instance = Instance::new(greeter.clone(), Address::new("10.0.0.7:50051")?);
    /// let id = instance.id.clone();
    /// registry.set_intent(&greeter, &id, Intent::from(Status::Draining)).await?;
    ///
    /// let _registration = registry.register(instance, Duration::from_secs(10));
    /// let mut watch = registry.watch(&greeter);
    /// let mut status = async || loop {
    ///     match watch.view().snapshot.as_ref().and_then(|all| all.get(&id)) {
    ///         Some(instance) => break instance.status,
    ///         None => drop(watch.changed().await),
    ///     }
    /// };
    /// assert_eq!(status().await, Status::Draining);
    ///
    /// registry.clear_intent(&greeter, &id).await?;
    /// assert_eq!(registry.list(&greeter).await?.get(&id).map(|i| i.status), Some(Status::Serving));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_intent(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        intent: Intent,
    ) -> Result<(), StoreError> {
        self.store.set_intent(service, id, intent).await
    }

    /// Gives an instance back to itself, whatever was [wanted](Self::set_intent) of it. Cancelled, or after an error, the
    /// intent may be gone or not.
    ///
    /// Where the registry has none, the instance may carry one that the registry has lost: then it is written that
    /// [nothing](Intent::nothing) is wanted, which stays until something is wanted again.
    pub async fn clear_intent(
        &self,
        service: &ServiceName,
        id: &InstanceId,
    ) -> Result<(), StoreError> {
        let stored = self.store.list_intents(service).await?;
        match stored.get(id) {
            Some(intent) if !intent.is_nothing() => self.store.delete_intent(service, id).await,
            Some(_) => Ok(()),
            None => {
                let nothing = Intent::nothing();
                self.store.set_intent(service, id, nothing).await
            }
        }
    }

    /// All that is [wanted](Self::set_intent) of a service's instances, read from the registry now, whether or not these
    /// are there; without what [instances carry](Self::register) that the registry has lost.
    ///
    /// ```
    /// # use registry::{Intent, InstanceId, Registry, ServiceName, Weight, backend::memory::MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let registry = Registry::new(MemoryStore::new());
    /// let (greeter, id) = (ServiceName::new("greeter")?, InstanceId::new("10.0.0.7:50051")?);
    /// let lighter = Intent::from(Weight::new(1)?);
    /// registry.set_intent(&greeter, &id, lighter.clone()).await?;
    /// assert_eq!(registry.intents(&greeter).await?.get(&id), Some(&lighter));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn intents(&self, service: &ServiceName) -> Result<Intents, StoreError> {
        let stored = self.store.list_intents(service).await?;
        Ok(stored.wanting_something())
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
            DocumentReflector::start(Arc::clone(&self.store), self.cache.clone(), service.clone())
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

    /// The servers that keep it, each asked by itself whether it answers and how it is, in the order of their addresses: the
    /// members of an etcd cluster that were configured, and those of which it has told by now. None where there is no server.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert!(registry::connect("memory:")?.members().await.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn members(&self) -> Vec<Member> {
        self.store.members().await
    }

    /// How many values this process has skipped because they are no instances, or no intents, each revision of each counted once.
    pub fn undecodable(&self) -> u64 {
        self.store.undecodable()
    }

    /// How often a file that the registry is secured by (a certificate, a key) had changed and could not be used; what was
    /// in force before still is.
    pub fn refused_files(&self) -> u64 {
        self.store.refused_files()
    }

    /// From when to when the certificate that is shown to the registry is valid; `None` where none is, or nothing has been asked of it
    /// yet.
    pub fn certificate(&self) -> Option<Validity> {
        self.store.certificate()
    }

    /// How often what running watches told was compared with what is there, and with which result.
    pub fn reconciled(&self) -> Reconciled {
        self.store.reconciled()
    }

    /// The names of all services of which the registry has anything, in order: an instance, a [document](Self::document), or
    /// an [intent](Self::set_intent) for an instance that need not be there.
    ///
    /// ```
    /// # use registry::{InstanceId, Registry, ServiceName, Status, backend::memory::MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let registry = Registry::new(MemoryStore::new());
    /// let (greeter, id) = (ServiceName::new("greeter")?, InstanceId::new("10.0.0.7:50051")?);
    /// registry.set_intent(&greeter, &id, Status::Draining.into()).await?;
    /// assert_eq!(registry.known_services().await?, [greeter]);
    /// assert_eq!(registry.services().await?, []);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn known_services(&self) -> Result<Vec<ServiceName>, StoreError> {
        self.store.known_services().await
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
