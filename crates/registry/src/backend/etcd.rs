//! A cluster: an etcd cluster holds the instances under leases.
//!
//! Each hold is a key under a lease that is kept alive, and that its owner watches; each watch is a linearizable list
//! and what comes after it, on one connection to one member, by a watch of its own or one that all in a namespace share. On
//! any failure the next member is used.
//!
//! A service's document is the value of the key `_service_config/<service>`, below the namespace as all keys are, and
//! has no lease. So is what an operator wants of an instance, the value of the key `_intent/<service>/<id>`.

mod document;
mod events;
mod group;
mod hold;
mod intent;
mod joined;
mod keys;
mod known;
mod lease;
mod list;
mod members;
mod merge;
mod options;
mod place;
mod placements;
mod places;
mod put;
mod reader;
mod reconcile;
mod seat;
mod shared;
mod source;
mod transaction;
mod turns;
mod unowned;
mod url;
mod watch;
mod watchers;
mod watching;
mod writes;

use std::{
    collections::BTreeSet,
    sync::{Arc, Once},
};

use futures_util::{StreamExt, TryStreamExt, future::BoxFuture, stream::BoxStream};

use self::{
    document::DocumentKey,
    group::Groups,
    hold::{EtcdHold, Holds},
    intent::{IntentKeys, gathered},
    joined::Joined,
    keys::Keys,
    list::{BOUND, What, for_each, range},
    members::{Connection, Failure, Members},
    reader::Reader,
    reconcile::Tally,
    shared::Shared,
    unowned::Unowned,
    watch::{Terms, Watched},
};
pub use self::{
    members::{EtcdError, OtherError, TlsFailure},
    options::{EtcdOptions, EtcdTls, EtcdUser},
    url::InvalidEtcdUrl,
};
use crate::{
    Change, Document, FoundDocument, Hold, HoldRequest, InstanceId, Intent, Intents, Member,
    Placement, Reconciled, ServiceName, Snapshot, Store, StoreError, Undecodable, dialect::Dialect,
    tls::Validity,
};

/// A registry in an etcd cluster, in the form that etcd's own Go packages read and write.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use registry::{Registry, backend::etcd::EtcdStore};
///
/// let registry = Registry::new(EtcdStore::new("etcd://10.0.0.1:2379,10.0.0.2:2379".parse()?));
/// println!("{:?}", registry.services().await?);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct EtcdStore {
    url: String,
    members: Arc<Members>,
    keys: Keys,
    holds: Arc<Holds>,
    terms: Terms,
    undecodable: Undecodable,
    nested: Arc<Once>,
}

impl EtcdStore {
    /// The store that `options` lead to. Does no I/O: the first use connects.
    pub fn new(options: EtcdOptions) -> Self {
        let url = options.to_string();
        let members = Arc::new(Members::of(&options));
        let keys = Keys::new(options.namespace.as_ref(), options.dialects);
        let holds = Arc::new(Holds {
            keys: keys.clone(),
            groups: Groups::new(Arc::clone(&members), options.quiet),
        });
        let turns = Arc::default();
        // Never of all of etcd.
        let namespace = options.namespace.filter(|_| options.is_watch_shared);
        let shared = namespace.map(|namespace| {
            let range = range(&format!("{namespace}/"));
            let turns = Arc::clone(&turns);
            Arc::new(Shared::new(
                Arc::clone(&members),
                range,
                options.quiet,
                turns,
            ))
        });
        let terms = Terms {
            members: Arc::clone(&members),
            quiet: options.quiet,
            reconcile: options.reconcile,
            tally: Tally::default(),
            turns,
            shared,
        };
        Self {
            url,
            members,
            keys,
            holds,
            terms,
            undecodable: Undecodable::default(),
            nested: Arc::new(Once::new()),
        }
    }

    fn document(&self, service: &ServiceName) -> DocumentKey {
        DocumentKey(self.keys.document(service))
    }

    fn intents(&self, service: &ServiceName) -> IntentKeys {
        IntentKeys {
            prefix: self.keys.intents(service),
            undecodable: self.undecodable.clone(),
        }
    }

    /// A reader of each dialect.
    fn readers(&self, service: &ServiceName) -> Vec<Reader> {
        let reader = |dialect: &Dialect| {
            Reader::new(
                service.clone(),
                self.keys.clone(),
                dialect.clone(),
                self.undecodable.clone(),
                Arc::clone(&self.nested),
            )
        };
        self.keys.dialects().iter().map(reader).collect()
    }
}

impl Store for EtcdStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn hold(&self, request: HoldRequest) -> BoxFuture<'_, Result<Box<dyn Hold>, StoreError>> {
        Box::pin(async {
            let hold = EtcdHold::new(Arc::clone(&self.holds), request).await?;
            Ok(Box::new(hold) as Box<dyn Hold>)
        })
    }

    fn list<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
        Box::pin(async {
            let readers = self.readers(service);
            let listed = self
                .members
                .call(|connection| list(connection, &readers))
                .await;
            let all = listed.map_err(|failure| StoreError::ListFailed {
                service: service.clone(),
                source: failure.into(),
            })?;
            Ok(Snapshot::empty(service.clone()).apply(all))
        })
    }

    fn placements<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<Vec<Placement>, StoreError>> {
        Box::pin(async {
            let readers = self.readers(service);
            let listed = self.members.call(async |connection: Connection| {
                placements::placements(&connection, &readers).await
            });
            listed.await.map_err(|failure| StoreError::ListFailed {
                service: service.clone(),
                source: failure.into(),
            })
        })
    }

    fn watch(&self, service: &ServiceName) -> BoxStream<'static, Result<Change, StoreError>> {
        let readers = self.readers(service);
        let joined = Joined::of(&readers);
        let watches = readers
            .into_iter()
            .map(|reader| self.terms.follow(reader).boxed());
        let changes = joined::follow(joined, watches.collect());
        let service = service.clone();
        let failed = move |failure: Failure| StoreError::WatchFailed {
            service: service.clone(),
            source: failure.into(),
        };
        changes.map_err(failed).boxed()
    }

    fn read_document<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<Option<Document>, StoreError>> {
        Box::pin(async {
            let found = self.document(service).read(&self.members).await;
            let failed = |source| StoreError::ReadDocumentFailed {
                service: service.clone(),
                source,
            };
            found
                .map_err(|failure| failed(failure.into()))?
                .map_err(|invalid| failed(invalid.into()))
        })
    }

    fn watch_document(
        &self,
        service: &ServiceName,
    ) -> BoxStream<'static, Result<FoundDocument, StoreError>> {
        let found = self.terms.follow(self.document(service));
        let service = service.clone();
        let failed = move |failure: Failure| StoreError::WatchDocumentFailed {
            service: service.clone(),
            source: failure.into(),
        };
        found.map_err(failed).boxed()
    }

    fn set_document<'a>(
        &'a self,
        service: &'a ServiceName,
        document: Document,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let set = self.document(service).set(&self.members, &document).await;
            set.map_err(|failure| StoreError::SetDocumentFailed {
                service: service.clone(),
                source: failure.into(),
            })
        })
    }

    fn delete_document<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async {
            let deleted = self.document(service).delete(&self.members).await;
            deleted.map_err(|failure| StoreError::DeleteDocumentFailed {
                service: service.clone(),
                source: failure.into(),
            })
        })
    }

    fn list_intents<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<Intents, StoreError>> {
        Box::pin(async {
            let listed = self.intents(service).list(&self.members).await;
            listed.map_err(|failure| StoreError::ListIntentsFailed {
                service: service.clone(),
                source: failure.into(),
            })
        })
    }

    fn watch_intents(
        &self,
        service: &ServiceName,
    ) -> BoxStream<'static, Result<Intents, StoreError>> {
        let said = self.terms.follow(self.intents(service));
        let service = service.clone();
        let failed = move |failure: Failure| StoreError::WatchIntentsFailed {
            service: service.clone(),
            source: failure.into(),
        };
        gathered(said).map_err(failed).boxed()
    }

    fn set_intent<'a>(
        &'a self,
        service: &'a ServiceName,
        id: &'a InstanceId,
        intent: Intent,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let key = self.keys.intent(service, id);
            let set = Unowned(&key).put(&self.members, &intent.to_json()).await;
            set.map_err(|failure| StoreError::SetIntentFailed {
                service: service.clone(),
                id: id.clone(),
                source: failure.into(),
            })
        })
    }

    fn delete_intent<'a>(
        &'a self,
        service: &'a ServiceName,
        id: &'a InstanceId,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async {
            let key = self.keys.intent(service, id);
            let deleted = Unowned(&key).delete(&self.members).await;
            deleted.map_err(|failure| StoreError::DeleteIntentFailed {
                service: service.clone(),
                id: id.clone(),
                source: failure.into(),
            })
        })
    }

    fn members(&self) -> BoxFuture<'_, Vec<Member>> {
        Box::pin(self.members.ask_each())
    }

    fn undecodable(&self) -> u64 {
        self.undecodable.count()
    }

    fn refused_files(&self) -> u64 {
        self.members.refused_files()
    }

    fn certificate(&self) -> Option<Validity> {
        self.members.certificate()
    }

    fn reconciled(&self) -> Reconciled {
        self.terms.tally.read()
    }

    fn services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>> {
        Box::pin(async {
            let listed = self.members.call(async |connection: Connection| {
                let services = services(&connection, &self.keys).await?;
                Ok(services.into_iter().collect())
            });
            listed.await.map_err(services_failed)
        })
    }

    fn known_services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>> {
        Box::pin(async {
            let listed = self.members.call(async |connection: Connection| {
                let mut known = services(&connection, &self.keys).await?;
                known.extend(kept_for(&connection, &self.keys).await?);
                Ok(known.into_iter().collect())
            });
            listed.await.map_err(services_failed)
        })
    }
}

fn services_failed(failure: Failure) -> StoreError {
    let source = failure.into();
    StoreError::ServicesFailed { source }
}

async fn list(connection: Connection, readers: &[Reader]) -> Result<Change, Failure> {
    let mut joined = Joined::of(readers);
    let mut change = None;
    for (place, reader) in readers.iter().enumerate() {
        let (_, said) = reader.list(&connection, |_| ()).await?;
        change = joined.take(place, said);
    }
    Ok(change.expect("when all have been listed there is a list of all"))
}

async fn services(connection: &Connection, keys: &Keys) -> Result<BTreeSet<ServiceName>, Failure> {
    let mut services = BTreeSet::new();
    for root in keys.roots() {
        let read = for_each(connection, What::ServiceKeys(&root), BOUND, |kv| {
            services.extend(root.services_of(kv.key()));
        });
        read.await?;
    }
    Ok(services)
}

/// The services that have a document, or an intent for an instance.
async fn kept_for(connection: &Connection, keys: &Keys) -> Result<BTreeSet<ServiceName>, Failure> {
    let whole: fn(&str) -> Option<&str> = |name| Some(name);
    let before_the_id: fn(&str) -> Option<&str> = |name| Some(name.rsplit_once('/')?.0);
    let mut services = BTreeSet::new();
    for (prefix, service_of) in [
        (keys.documents(), whole),
        (keys.all_intents(), before_the_id),
    ] {
        let all = range(&prefix);
        let read = for_each(connection, What::Keys(&all), BOUND, |kv| {
            let name = kv.key().strip_prefix(prefix.as_bytes());
            let name = name.and_then(|name| service_of(str::from_utf8(name).ok()?));
            services.extend(name.and_then(|name| ServiceName::new(name).ok()));
        });
        read.await?;
    }
    Ok(services)
}
