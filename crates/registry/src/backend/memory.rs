//! One process: instances live as long as the store, for tests and for embedding.

mod kept;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{
    FutureExt, Stream, StreamExt, TryStreamExt,
    future::{BoxFuture, ready},
    stream::{self, BoxStream},
};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use self::kept::Kept;
use crate::{
    Change, Claim, Document, FoundDocument, Hold, HoldRequest, Instance, InstanceId, Intent,
    Intents, Loss, Revision, ServiceName, Snapshot, Store, StoreError, Update,
};

/// A registry inside one process. Clones share what is in it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    services: Mutex<HashMap<ServiceName, watch::Sender<Service>>>,
    /// Counts both revisions and holders: each step of the store's history is one of a kind.
    steps: AtomicU64,
    documents: Kept<Option<Document>>,
    intents: Kept<Intents>,
}

#[derive(Debug)]
struct Service {
    snapshot: Snapshot,
    holders: HashMap<InstanceId, u64>,
}

impl MemoryStore {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Shared {
    fn step(&self) -> u64 {
        self.steps.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn services(&self) -> MutexGuard<'_, HashMap<ServiceName, watch::Sender<Service>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a service that is held or watched from now on. One that is neither any more is forgotten when
    /// the next one comes.
    fn service<T>(
        &self,
        service: &ServiceName,
        with: impl FnOnce(&watch::Sender<Service>) -> T,
    ) -> T {
        let mut services = self.services();
        if !services.contains_key(service) {
            services.retain(|_, known| known.receiver_count() > 0);
        }
        let entry = services.entry(service.clone()).or_insert_with(|| {
            watch::Sender::new(Service {
                snapshot: self.nobody(service),
                holders: HashMap::new(),
            })
        });
        with(entry)
    }

    /// No instances, as of now: no revision is older than what was told before.
    fn nobody(&self, service: &ServiceName) -> Snapshot {
        Snapshot::empty(service.clone()).apply(Change {
            revision: Revision(self.steps.load(Ordering::Relaxed)),
            updates: Vec::new(),
        })
    }

    /// Applies `update` where `holder` still holds `id`, and says whether it does.
    fn change(&self, service: &ServiceName, id: &InstanceId, holder: u64, update: Update) -> bool {
        self.service(service, |sender| {
            sender.send_if_modified(|state| {
                let ours = state.holders.get(id) == Some(&holder);
                if ours {
                    if matches!(update, Update::Remove(_)) {
                        state.holders.remove(id);
                    }
                    state.apply(self.step(), update);
                }
                ours
            })
        })
    }
}

impl Service {
    fn is_held_by_another(&self, instance: &Instance) -> bool {
        let holder = self.snapshot.get(&instance.id);
        holder.is_some_and(|holder| {
            holder.incarnation.is_none() || holder.incarnation != instance.incarnation
        })
    }

    fn apply(&mut self, step: u64, update: Update) {
        let revision = Revision(step);
        let update = match update {
            Update::Upsert(instance) => {
                let key = format!("{}/{}", instance.service, instance.id);
                let instance = Arc::unwrap_or_clone(instance).read_at(key, revision);
                Update::Upsert(Arc::new(instance))
            }
            other => other,
        };
        let change = Change {
            revision,
            updates: vec![update],
        };
        self.snapshot = self.snapshot.clone().apply(change);
    }
}

impl Store for MemoryStore {
    fn url(&self) -> &'static str {
        "memory:"
    }

    fn hold(
        &self,
        HoldRequest {
            instance, claim, ..
        }: HoldRequest,
    ) -> BoxFuture<'_, Result<Box<dyn Hold>, StoreError>> {
        let (service, id) = (instance.service.clone(), instance.id.clone());
        let holder = self.shared.step();
        let held = self.shared.service(&service, |sender| {
            let taken = sender.borrow().is_held_by_another(&instance);
            if claim != Claim::First && taken {
                return Err(StoreError::Superseded {
                    service: service.clone(),
                    id: id.clone(),
                    holder: holder_of(&sender.borrow(), &id),
                });
            }
            sender.send_modify(|state| {
                state.holders.insert(id.clone(), holder);
                state.apply(self.shared.step(), Update::Upsert(Arc::new(instance)));
            });
            Ok(sender.subscribe())
        });
        let shared = Arc::clone(&self.shared);
        ready(held.map(|state| {
            Box::new(MemoryHold {
                shared,
                service,
                id,
                holder,
                state,
            }) as Box<dyn Hold>
        }))
        .boxed()
    }

    fn list<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
        let services = self.shared.services();
        let known = services.get(service);
        let listed = known.map(|sender| sender.borrow().snapshot.clone());
        ready(Ok(listed.unwrap_or_else(|| self.shared.nobody(service)))).boxed()
    }

    fn watch(&self, service: &ServiceName) -> BoxStream<'static, Result<Change, StoreError>> {
        let follower = Follower {
            state: self.shared.service(service, watch::Sender::subscribe),
            seen: None,
            _shared: Arc::clone(&self.shared),
        };
        stream::unfold(follower, |mut follower| async {
            Some((Ok(follower.next().await), follower))
        })
        .boxed()
    }

    fn services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>> {
        let services = self.shared.services();
        let mut names: Vec<_> = services
            .iter()
            .filter(|(_, s)| !s.borrow().snapshot.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        names.sort();
        ready(Ok(names)).boxed()
    }

    fn known_services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>> {
        let kept = self.shared.documents.services();
        let kept = kept.into_iter().chain(self.shared.intents.services());
        async {
            let all: BTreeSet<_> = self.services().await?.into_iter().chain(kept).collect();
            Ok(all.into_iter().collect())
        }
        .boxed()
    }

    fn read_document<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<Option<Document>, StoreError>> {
        ready(Ok(self.shared.documents.get(service))).boxed()
    }

    fn watch_document(
        &self,
        service: &ServiceName,
    ) -> BoxStream<'static, Result<FoundDocument, StoreError>> {
        each(self.shared.documents.watch(service))
            .map_ok(Ok)
            .boxed()
    }

    fn set_document<'a>(
        &'a self,
        service: &'a ServiceName,
        document: Document,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.shared.documents.change(service, |there, revision| {
            *there = Some(document.read_at(service.as_str(), revision));
        });
        ready(Ok(())).boxed()
    }

    fn delete_document<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.shared
            .documents
            .change(service, |there, _| *there = None);
        ready(Ok(())).boxed()
    }

    fn list_intents<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<Intents, StoreError>> {
        ready(Ok(self.shared.intents.get(service))).boxed()
    }

    fn watch_intents(
        &self,
        service: &ServiceName,
    ) -> BoxStream<'static, Result<Intents, StoreError>> {
        each(self.shared.intents.watch(service)).boxed()
    }

    fn set_intent<'a>(
        &'a self,
        service: &'a ServiceName,
        id: &'a InstanceId,
        intent: Intent,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.shared.intents.change(service, |intents, revision| {
            let written = intent.read_at(format!("{service}/{id}"), revision);
            intents.set(id.clone(), Some(written));
        });
        ready(Ok(())).boxed()
    }

    fn delete_intent<'a>(
        &'a self,
        service: &'a ServiceName,
        id: &'a InstanceId,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.shared
            .intents
            .change(service, |intents, _| intents.set(id.clone(), None));
        ready(Ok(())).boxed()
    }
}

/// What is there, and each value that comes after it.
fn each<T: Clone + Send + Sync + 'static>(
    value: watch::Receiver<T>,
) -> impl Stream<Item = Result<T, StoreError>> {
    // It ends with the last who could write.
    WatchStream::new(value).map(Ok).chain(stream::pending())
}

/// One watch: what it has told, and where it reads on.
struct Follower {
    state: watch::Receiver<Service>,
    seen: Option<Snapshot>,
    /// Keeps the sender, so that `state` never ends.
    _shared: Arc<Shared>,
}

impl Follower {
    async fn next(&mut self) -> Change {
        if self.seen.is_some() {
            self.state
                .changed()
                .await
                .expect("the store outlives its watches");
        }
        let now = self.state.borrow_and_update().snapshot.clone();
        let updates = match &self.seen {
            None => vec![Update::Reset(now.instances().cloned().collect())],
            Some(before) => now.changes_since(before),
        };
        let revision = now.revision();
        self.seen = Some(now);
        Change { revision, updates }
    }
}

fn holder_of(state: &Service, id: &InstanceId) -> String {
    match state
        .snapshot
        .get(id)
        .and_then(|instance| instance.incarnation)
    {
        Some(incarnation) => format!("incarnation {incarnation}"),
        None => "an unnamed incarnation".into(),
    }
}

struct MemoryHold {
    shared: Arc<Shared>,
    service: ServiceName,
    id: InstanceId,
    holder: u64,
    state: watch::Receiver<Service>,
}

impl Hold for MemoryHold {
    fn lost(&mut self) -> BoxFuture<'_, Loss> {
        async {
            let ours = self.holder;
            let state = self
                .state
                .wait_for(|state| state.holders.get(&self.id) != Some(&ours))
                .await;
            let state = state.expect("the store outlives its holds");
            if state.holders.contains_key(&self.id) {
                Loss::Superseded(holder_of(&state, &self.id))
            } else {
                Loss::Deleted("it was removed".into())
            }
        }
        .boxed()
    }

    fn written(&self) -> Revision {
        Revision(self.holder)
    }

    fn update(&mut self, instance: Instance) -> BoxFuture<'_, Result<(), StoreError>> {
        // A hold that is lost says so in `lost`; there is nothing left to update.
        self.shared.change(
            &self.service,
            &self.id,
            self.holder,
            Update::Upsert(Arc::new(instance)),
        );
        ready(Ok(())).boxed()
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        drop(self);
        ready(Ok(())).boxed()
    }
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        self.shared.change(
            &self.service,
            &self.id,
            self.holder,
            Update::Remove(self.id.clone()),
        );
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::{MemoryStore, ServiceName, Store};

    #[tokio::test]
    async fn what_is_only_asked_for_takes_no_memory_for_long() {
        let store = MemoryStore::new();
        for number in 0..100 {
            let name = ServiceName::new(&format!("asked-{number}")).expect("a name");
            assert!(store.list(&name).await.expect("a list").is_empty());
            let first = store.watch(&name).next().await.expect("an item");
            assert_eq!(first.expect("a reset").updates.len(), 1);
        }
        let known = store.shared.services().len();
        assert!(known <= 1, "{known} services are known");
    }
}
