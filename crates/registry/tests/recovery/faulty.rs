//! A store that fails on command, over one that does not: the store and its handle in one call.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures_util::{
    FutureExt, StreamExt, TryFutureExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use registry::{
    Change, Document, FoundDocument, Hold, HoldRequest, Instance, InstanceId, Intent, Intents,
    InvalidDocument, Loss, Registry, Revision, ServiceName, Snapshot, Store, StoreError,
    backend::memory::MemoryStore,
};
use tokio::sync::watch;

/// A registry over memory whose faults the handle makes.
pub(crate) fn faulty() -> (Registry, Faults) {
    let faults = Faults(Arc::new(Shared {
        faults: watch::Sender::default(),
        failing_updates: AtomicUsize::new(0),
        started: AtomicUsize::new(0),
        running: watch::Sender::default(),
        invalid: watch::Sender::default(),
    }));
    (
        Registry::new(Faulty {
            store: MemoryStore::new(),
            faults: faults.clone(),
        }),
        faults,
    )
}

#[derive(Debug, Clone)]
pub(crate) struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    faults: watch::Sender<State>,
    failing_updates: AtomicUsize,
    started: AtomicUsize,
    running: watch::Sender<usize>,
    invalid: watch::Sender<Option<InvalidDocument>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct State {
    down: bool,
    holds_hang: bool,
    watches: NewWatches,
    intents: NewWatches,
    revision: u64,
    holds_lost: usize,
    holds_deleted: usize,
    watches_broken: usize,
}

/// What becomes of watches that are started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum NewWatches {
    #[default]
    Work,
    Fail,
    Hang,
}

impl Faults {
    /// Makes every request fail, or none.
    pub(crate) fn set_down(&self, down: bool) {
        self.0.faults.send_modify(|state| state.down = down);
    }

    /// Makes every attempt to hold wait for an answer, or none.
    pub(crate) fn hang_holds(&self, hang: bool) {
        self.0.faults.send_modify(|state| state.holds_hang = hang);
    }

    /// Decides on new watches of whatever it is.
    pub(crate) fn let_watches(&self, be: NewWatches) {
        self.0.faults.send_modify(|state| state.watches = be);
    }

    /// Decides on new watches of intents.
    pub(crate) fn let_intents(&self, be: NewWatches) {
        self.0.faults.send_modify(|state| state.intents = be);
    }

    /// Decides as of which revision intents are read, now and later.
    pub(crate) fn stand_at(&self, revision: u64) {
        self.0.faults.send_modify(|state| state.revision = revision);
    }

    /// Removes every instance that is held.
    pub(crate) fn lose_all_holds(&self) {
        self.0.faults.send_modify(|state| state.holds_lost += 1);
    }

    /// Removes every instance that is held, as somebody does by hand.
    pub(crate) fn delete_all_holds(&self) {
        self.0.faults.send_modify(|state| state.holds_deleted += 1);
    }

    /// Ends every watch.
    pub(crate) fn break_watches(&self) {
        self.0.faults.send_modify(|state| state.watches_broken += 1);
    }

    /// Makes each watch of a document tell of one that is none, now and later, after what is there.
    pub(crate) fn spoil_documents(&self, invalid: InvalidDocument) {
        self.0.invalid.send_replace(Some(invalid));
    }

    /// Makes the next `count` updates fail.
    pub(crate) fn fail_updates(&self, count: usize) {
        self.0.failing_updates.store(count, SeqCst);
    }

    pub(crate) fn watches_started(&self) -> usize {
        self.0.started.load(SeqCst)
    }

    pub(crate) fn watches_running(&self) -> usize {
        *self.0.running.borrow()
    }

    pub(crate) async fn no_watch_is_running(&self) {
        self.0
            .running
            .subscribe()
            .wait_for(|running| *running == 0)
            .await
            .expect("we keep the sender");
    }

    fn now(&self) -> State {
        *self.0.faults.borrow()
    }

    /// Waits until `is` differs from what it is now.
    async fn changes<T: PartialEq>(&self, is: impl Fn(&State) -> T) {
        let mut faults = self.0.faults.subscribe();
        let before = is(&faults.borrow_and_update());
        faults
            .wait_for(|state| is(state) != before)
            .await
            .expect("we keep the sender");
    }
}

#[derive(Debug)]
struct Faulty {
    store: MemoryStore,
    faults: Faults,
}

fn refused(service: &ServiceName) -> StoreError {
    StoreError::ListFailed {
        service: service.clone(),
        source: "connection refused".into(),
    }
}

impl Store for Faulty {
    fn url(&self) -> &'static str {
        "faulty:"
    }

    fn hold(&self, request: HoldRequest) -> BoxFuture<'_, Result<Box<dyn Hold>, StoreError>> {
        async move {
            if self.faults.now().holds_hang {
                self.faults.changes(|state| state.holds_hang).await;
            }
            if self.faults.now().down {
                return Err(refused(&request.instance.service));
            }
            let hold = self.store.hold(request).await?;
            Ok(Box::new(FaultyHold {
                hold: Some(hold),
                faults: self.faults.clone(),
            }) as Box<dyn Hold>)
        }
        .boxed()
    }

    fn list<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
        self.store.list(service)
    }

    fn watch(&self, service: &ServiceName) -> BoxStream<'static, Result<Change, StoreError>> {
        self.faulty(self.store.watch(service), service)
    }

    fn services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>> {
        self.store.services()
    }

    fn list_intents<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<Intents, StoreError>> {
        match self.faults.now().intents {
            NewWatches::Work => {
                let intents = self.store.list_intents(service);
                let revision = Revision(self.faults.now().revision);
                intents.map_ok(move |all| all.read_at(revision)).boxed()
            }
            NewWatches::Fail | NewWatches::Hang => async { Err(refused(service)) }.boxed(),
        }
    }

    fn watch_intents(
        &self,
        service: &ServiceName,
    ) -> BoxStream<'static, Result<Intents, StoreError>> {
        match self.faults.now().intents {
            NewWatches::Work => {
                let faults = self.faults.clone();
                let intents = self.store.watch_intents(service);
                let read = move |all: Intents| all.read_at(Revision(faults.now().revision));
                self.faulty(intents.map_ok(read).boxed(), service)
            }
            NewWatches::Fail => stream::iter([Err(refused(service))]).boxed(),
            NewWatches::Hang => stream::pending().boxed(),
        }
    }

    fn set_intent<'a>(
        &'a self,
        service: &'a ServiceName,
        id: &'a InstanceId,
        intent: Intent,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.set_intent(service, id, intent)
    }

    fn delete_intent<'a>(
        &'a self,
        service: &'a ServiceName,
        id: &'a InstanceId,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.delete_intent(service, id)
    }

    fn watch_document(
        &self,
        service: &ServiceName,
    ) -> BoxStream<'static, Result<FoundDocument, StoreError>> {
        let mut invalid = self.faults.0.invalid.subscribe();
        let spoilt = async move {
            let spoilt = invalid.wait_for(Option::is_some).await;
            let invalid = spoilt.expect("the handle keeps it").clone();
            Ok(Err(invalid.expect("just waited for")))
        };
        let found = self.store.watch_document(service);
        let found = stream::select(found, stream::once(spoilt));
        self.faulty(found.boxed(), service)
    }

    fn set_document<'a>(
        &'a self,
        service: &'a ServiceName,
        document: Document,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.set_document(service, document)
    }

    fn delete_document<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.delete_document(service)
    }
}

impl Faulty {
    /// A watch that fails and breaks on command.
    fn faulty<T: Send + 'static>(
        &self,
        watch: BoxStream<'static, Result<T, StoreError>>,
        service: &ServiceName,
    ) -> BoxStream<'static, Result<T, StoreError>> {
        self.faults.0.started.fetch_add(1, SeqCst);
        self.faults.0.running.send_modify(|running| *running += 1);
        let running = Running(self.faults.clone());
        let state = self.faults.now();
        if state.down || state.watches == NewWatches::Fail {
            return stream::iter([Err(refused(service))]).boxed();
        }
        if state.watches == NewWatches::Hang {
            return stream::pending().boxed();
        }
        let faults = self.faults.clone();
        let broken = async move { faults.changes(|state| state.watches_broken).await };
        watch
            .take_until(Box::pin(broken))
            .chain(stream::iter([Err(refused(service))]))
            .inspect(move |_| {
                let _lives_as_long_as_the_stream = &running;
            })
            .boxed()
    }
}

/// Counts a watch as running for as long as it is held.
struct Running(Faults);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.send_modify(|running| *running -= 1);
    }
}

struct FaultyHold {
    hold: Option<Box<dyn Hold>>,
    faults: Faults,
}

impl Hold for FaultyHold {
    fn lost(&mut self) -> BoxFuture<'_, Loss> {
        async {
            let Some(hold) = &mut self.hold else {
                return Loss::Gone("revoked".into());
            };
            tokio::select! {
                loss = hold.lost() => loss,
                () = self.faults.changes(|state| state.holds_lost) => {
                    self.hold = None;
                    Loss::Gone("revoked".into())
                }
                () = self.faults.changes(|state| state.holds_deleted) => {
                    self.hold = None;
                    Loss::Deleted("deleted by hand".into())
                }
            }
        }
        .boxed()
    }

    fn written(&self) -> Revision {
        self.hold
            .as_ref()
            .map_or_else(Revision::default, |hold| hold.written())
    }

    fn update(&mut self, instance: Instance) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let fails = self
                .faults
                .0
                .failing_updates
                .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                .is_ok();
            match &mut self.hold {
                Some(hold) if !fails => hold.update(instance).await,
                _ => Err(refused(&instance.service)),
            }
        }
        .boxed()
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        match self.hold {
            Some(hold) => hold.release(),
            None => async { Ok(()) }.boxed(),
        }
    }
}
