//! What a backend implements. Everything above it ([`Registration`](crate::Registration),
//! [`Registry::watch`](crate::Registry::watch), [`Registry::document`](crate::Registry::document)) is written once, over
//! this.

use std::{fmt, time::Duration};

use futures_util::{
    FutureExt, StreamExt, TryFutureExt,
    future::{BoxFuture, ready},
    stream::{self, BoxStream},
};

use crate::{
    Change, Document, FoundDocument, Instance, InstanceId, Intent, Intents, Member, Placement,
    Revision, ServiceName, Snapshot, StoreError, tls::Validity,
};

/// A place where instances are kept, and with them a document for each service, and what operators want of instances.
///
/// Every future returned here ends within a bound that the store sets itself, and can be dropped at any time; what a
/// dropped `hold` had written goes with its lease. A store does not retry: the caller does.
///
/// The four methods about documents are for a store that keeps them. One that implements none of them has no document,
/// and refuses to be given any ([`StoreError::NoDocuments`]). So it is with the four methods about intents
/// ([`StoreError::NoIntents`]).
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// The store's URL without secrets, for logs and messages.
    fn url(&self) -> &str;

    /// Puts an instance into the store and keeps it there until the [`Hold`] is lost, released or dropped.
    fn hold(&self, request: HoldRequest) -> BoxFuture<'_, Result<Box<dyn Hold>, StoreError>>;

    /// All instances of a service, as they say themselves that they are now; empty when nobody has registered.
    fn list<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<Snapshot, StoreError>>;

    /// Each place that describes an instance of a service, as it is now: for who wants to know why the instance is there.
    fn placements<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<Vec<Placement>, StoreError>> {
        let listed = self.list(service);
        listed
            .map_ok(|list| list.instances().cloned().map(Placement::of).collect())
            .boxed()
    }

    /// Follows a service. The first item is a [`Reset`](crate::Update::Reset) to all instances as they are now; what
    /// follows leaves no gap to it. The stream ends with an error, after which the caller starts another.
    fn watch(&self, service: &ServiceName) -> BoxStream<'static, Result<Change, StoreError>>;

    /// The names of all services that have an instance, in order.
    fn services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>>;

    /// The names of all services of which there is anything, in order: an instance, a document, or an intent for an instance
    /// that need not be there. What is no intent counts too.
    fn known_services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>> {
        self.services()
    }

    /// A service's document as it is now. A service needs no instance to have one.
    fn read_document<'a>(
        &'a self,
        _service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<Option<Document>, StoreError>> {
        ready(Ok(None)).boxed()
    }

    /// Follows a service's document. The first item is what is there now; what follows leaves no gap to it, but of changes
    /// in quick succession all but the last may be left out. The stream ends with an error, after which the caller starts
    /// another; what is no document is told, and is no error.
    fn watch_document(
        &self,
        _service: &ServiceName,
    ) -> BoxStream<'static, Result<FoundDocument, StoreError>> {
        stream::once(ready(Ok(Ok(None))))
            .chain(stream::pending())
            .boxed()
    }

    /// Puts a service's document in place of what was there. Of two who write at the same time either may have the last
    /// word. Dropped, or after an error, it may have been written or not.
    fn set_document<'a>(
        &'a self,
        _service: &'a ServiceName,
        _document: Document,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Err(no_documents(self.url()))).boxed()
    }

    /// Takes a service's document away, if there is one. Dropped, or after an error, it may be gone or not.
    fn delete_document<'a>(
        &'a self,
        _service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Err(no_documents(self.url()))).boxed()
    }

    /// What operators want of the instances of a service, as it is now, that [nothing](Intent::nothing) is wanted among it. An
    /// instance need not be there for it. A store that may be wiped, or be restored from a backup, says as of which of its
    /// [revisions](Intents::read_at); so does the watch.
    fn list_intents<'a>(
        &'a self,
        _service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<Intents, StoreError>> {
        ready(Ok(Intents::default())).boxed()
    }

    /// Follows what operators want of the instances of a service. The first item is what is wanted now, and each further one
    /// is all that is wanted after something of it has changed; of changes in quick succession all but the last may be left
    /// out. The stream ends with an error, after which the caller starts another; what is no intent is skipped.
    fn watch_intents(
        &self,
        _service: &ServiceName,
    ) -> BoxStream<'static, Result<Intents, StoreError>> {
        stream::once(ready(Ok(Intents::default())))
            .chain(stream::pending())
            .boxed()
    }

    /// Puts what an operator wants of an instance in place of what was wanted. It has no lease: it stays until it is
    /// deleted, whatever becomes of the instance. Of two who write at the same time either may have the last word. Dropped,
    /// or after an error, it may have been written or not.
    fn set_intent<'a>(
        &'a self,
        _service: &'a ServiceName,
        _id: &'a InstanceId,
        _intent: Intent,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Err(no_intents(self.url()))).boxed()
    }

    /// Takes away what an operator wanted of an instance, if there is anything. Dropped, or after an error, it may be gone or
    /// not.
    fn delete_intent<'a>(
        &'a self,
        _service: &'a ServiceName,
        _id: &'a InstanceId,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Err(no_intents(self.url()))).boxed()
    }

    /// The servers that keep it, each asked by itself, in the order of their addresses; none where there is no server.
    fn members(&self) -> BoxFuture<'_, Vec<Member>> {
        ready(Vec::new()).boxed()
    }

    /// How many values this store has skipped because they are no instances, or no intents; each was logged once
    /// ([`Undecodable`](crate::Undecodable)).
    fn undecodable(&self) -> u64 {
        0
    }

    /// How often a file that this store is secured by (a certificate, a key) had changed and could not be used; each was
    /// logged once, and what was in force before still is.
    fn refused_files(&self) -> u64 {
        0
    }

    /// From when to when the certificate that this store shows is valid; `None` where it shows none, or has not connected yet.
    fn certificate(&self) -> Option<Validity> {
        None
    }

    /// How often what this store's watches told was compared with what is there, and with which result. A store whose
    /// watches cannot miss anything compares nothing.
    fn reconciled(&self) -> Reconciled {
        Reconciled::default()
    }
}

/// What came of comparing running watches with lists ([`Store::reconciled`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reconciled {
    /// How many comparisons there were.
    pub lists: u64,
    /// How many entries were otherwise than the watch had told. There should be none; each was put right.
    pub differences: u64,
}

fn no_documents(registry: &str) -> StoreError {
    let registry = registry.to_owned();
    StoreError::NoDocuments { registry }
}

fn no_intents(registry: &str) -> StoreError {
    let registry = registry.to_owned();
    StoreError::NoIntents { registry }
}

/// What is to be held, and how.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    /// The instance; its [`incarnation`](Instance::incarnation) says who holds.
    pub instance: Instance,
    /// How long the store keeps the instance when its process is not heard of any more. Backends that see a process
    /// die by other means need no lease and ignore it.
    pub ttl: Duration,
    /// Whether to take the key from whoever has it.
    pub claim: Claim,
}

/// Two processes may hold one key after another, never in turns: the one whose first claim came later wins, whatever any
/// clock says. A first claim succeeds once in a process's life, so whoever finds somebody else at its key when it comes
/// back is the earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// This process's first: take the key over.
    ///
    /// It is made again until it succeeds. A process that could not make it before now counts as started now: it takes
    /// the key even from one that was started after it and has been here meanwhile.
    First,
    /// Take the key only where nobody has it: whoever has, whenever that one came, is left alone
    /// ([`StoreError::Superseded`]). What our own incarnation has put there is no somebody else.
    ///
    /// For who holds on behalf of others, who may be there themselves. It is made again until it succeeds or is refused.
    IfAbsent,
    /// The hold was lost: take the key again, unless another incarnation has put itself there after the newest of our
    /// own writes, whose revision this is ([`StoreError::Superseded`]).
    ///
    /// What is older than our own write is no later process: a backup that was restored has brought it back. In a store
    /// that was wiped, revisions start anew, and a later process's write may have a lower number than ours: it cannot be
    /// told from such a backup, and is taken for one. A store whose revisions do not outlive a process takes any living
    /// holder for a later one.
    Again(Revision),
}

/// An instance's place in a store. Dropping it gives the place up as well as that can be done without waiting.
pub trait Hold: Send {
    /// Waits until the place is lost. Cancellation safe; called again after a loss it tells the same.
    fn lost(&mut self) -> BoxFuture<'_, Loss>;

    /// The revision of our newest write; what [`Claim::Again`] is made with.
    fn written(&self) -> Revision;

    /// Puts another value in place, without a moment of absence. `instance` has the same service and id.
    fn update(&mut self, instance: Instance) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Gives the place up, if it is still ours: never removes what a later process has put there.
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>>;
}

/// Why a place was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// It is gone (expired, the store wiped or out of reach), or something may be left of it, and is to be held again; the
    /// text says how.
    Gone(String),
    /// It was taken away by somebody while we were heard of, and nothing of it is left. It is to be held again as well, but
    /// not by an owner that drains: that one was about to take it away itself.
    Deleted(String),
    /// A later process holds it now; the text says who, as far as the store tells.
    Superseded(String),
}
