//! An instance's key under a lease of its own.

use std::{sync::Arc, time::Duration};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use futures_util::future::BoxFuture;
use tokio::{
    select,
    sync::{Notify, watch},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    lease::Lease,
    members::{Connection, Failure, Members},
    place::{Holder, Place, read},
    reader::revision,
};
use crate::{
    Claim, Hold, HoldRequest, Instance, Loss, Revision, StoreError, dialect::etcd as dialect,
};

/// How often a claim that somebody crosses is made anew.
const CLAIMS: usize = 3;

/// A key that has our lease.
#[derive(Debug)]
pub(super) struct EtcdHold {
    members: Arc<Members>,
    key: String,
    instance: Instance,
    lease: Lease,
    /// The revision of our newest put.
    written: i64,
    told: watch::Receiver<Option<Loss>>,
    /// Makes whoever watches over the key look at it.
    doubt: Arc<Notify>,
    guard: AbortOnDropHandle<()>,
    released: bool,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Etcd(#[from] Failure),
    #[error("its key changes hands too fast")]
    Crossed,
    #[error("its key is not held by this process any more")]
    NotOurs,
    #[error("{0}")]
    Superseded(String),
}

impl Problem {
    /// Whether it is certain that nothing was written.
    fn wrote_nothing(&self) -> bool {
        match self {
            Self::Etcd(failure) => failure.wrote_nothing(),
            Self::Crossed | Self::NotOurs | Self::Superseded(_) => true,
        }
    }
}

impl EtcdHold {
    /// Puts the instance at `key` and keeps it there; after a silence of `quiet` the key is looked at.
    pub(super) async fn new(
        members: Arc<Members>,
        key: String,
        request: HoldRequest,
        quiet: Duration,
    ) -> Result<Self, StoreError> {
        let HoldRequest {
            instance,
            ttl,
            claim,
        } = request;
        // When the put fails its lease is left to expire: the key may be there, and the next try keeps it there.
        let failed = |problem: Problem| match problem {
            Problem::Superseded(holder) => StoreError::Superseded {
                service: instance.service.clone(),
                id: instance.id.clone(),
                holder,
            },
            problem => StoreError::HoldFailed {
                service: instance.service.clone(),
                id: instance.id.clone(),
                source: problem.into(),
            },
        };
        let granted = Lease::grant(&members, ttl).await;
        let lease = granted.map_err(|failure| failed(failure.into()))?;
        let put = Put {
            members: &members,
            key: &key,
            instance: &instance,
            lease: lease.id(),
        };
        match put.claim(claim).await {
            Ok(known) => Ok(Self::guarded(members, key, instance, lease, known, quiet)),
            Err(problem) => {
                // What may have been written after all is left to expire: see `Drop`.
                if problem.wrote_nothing() {
                    lease.revoke_in_background();
                }
                Err(failed(problem))
            }
        }
    }

    /// The hold of a key that was put at revision `known`.
    fn guarded(
        members: Arc<Members>,
        key: String,
        instance: Instance,
        lease: Lease,
        known: i64,
        quiet: Duration,
    ) -> Self {
        let (tell, told) = watch::channel(None);
        let doubt = Arc::new(Notify::new());
        let keeper = lease.keeper();
        let place = Place {
            members: Arc::clone(&members),
            key: key.clone(),
            service: instance.service.clone(),
            id: instance.id.clone(),
            lease: lease.id(),
            holder: instance.incarnation,
            known,
            written: known,
            quiet,
            doubt: Arc::clone(&doubt),
        };
        let guard = tokio::spawn(async move {
            let loss = select! {
                loss = keeper.keep() => loss,
                loss = place.lost() => loss,
            };
            tell.send_replace(Some(loss));
        });
        Self {
            members,
            key,
            instance,
            lease,
            written: known,
            told,
            doubt,
            guard: AbortOnDropHandle::new(guard),
            released: false,
        }
    }

    async fn write(&self, instance: &Instance) -> Result<i64, Problem> {
        let put = Put {
            members: &self.members,
            key: &self.key,
            instance,
            lease: self.lease.id(),
        };
        let written = put.when(vec![self.ours()]).await?;
        written.ok_or_else(|| {
            self.doubt.notify_one();
            Problem::NotOurs
        })
    }

    async fn delete(&self) -> Result<(), Failure> {
        let delete = Txn::new()
            .when([self.ours()])
            .and_then([TxnOp::delete(self.key.as_str(), None)]);
        // Not ours any more is as good as deleted.
        self.members
            .call(|connection| transact(connection, delete.clone()))
            .await
            .map(|_| ())
    }

    fn ours(&self) -> Compare {
        Compare::lease(self.key.as_str(), CompareOp::Equal, self.lease.id())
    }
}

impl Hold for EtcdHold {
    fn lost(&mut self) -> BoxFuture<'_, Loss> {
        Box::pin(async {
            let loss = self.told.wait_for(Option::is_some).await;
            let loss = loss.ok().and_then(|loss| loss.clone());
            loss.unwrap_or_else(|| Loss::Gone("nobody watches over it any more".into()))
        })
    }

    fn written(&self) -> Revision {
        Revision(self.written.unsigned_abs())
    }

    fn update(&mut self, instance: Instance) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            let written = self.write(&instance).await;
            self.instance = instance;
            self.written = written.map_err(|problem| StoreError::UpdateFailed {
                service: self.instance.service.clone(),
                id: self.instance.id.clone(),
                source: problem.into(),
            })?;
            Ok(())
        })
    }

    fn release(mut self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            self.released = true;
            self.guard.abort();
            self.delete()
                .await
                .map_err(|failure| StoreError::ReleaseFailed {
                    service: self.instance.service.clone(),
                    id: self.instance.id.clone(),
                    source: failure.into(),
                })?;
            // The key is gone; what is left of the lease expires by itself.
            if let Err(failure) = self.lease.revoke().await {
                tracing::debug!(%failure, "a lease without keys is left to expire");
            }
            Ok(())
        })
    }
}

impl Drop for EtcdHold {
    /// A hold that was lost may have its key there still, and the next hold puts that under another lease: the lost one
    /// is left to expire, so that the instance does not vanish in between.
    fn drop(&mut self) {
        if !self.released && self.told.borrow().is_none() {
            self.lease.revoke_in_background();
        }
    }
}

/// A value to be put under a lease.
struct Put<'a> {
    members: &'a Members,
    key: &'a str,
    instance: &'a Instance,
    lease: i64,
}

impl Put<'_> {
    /// Puts it if the comparisons hold, and says at which revision; `None` when they do not.
    async fn when(&self, comparisons: Vec<Compare>) -> Result<Option<i64>, Failure> {
        let options = PutOptions::new().with_lease(self.lease);
        let value = dialect::encode(self.instance);
        let put =
            Txn::new()
                .when(comparisons)
                .and_then([TxnOp::put(self.key, value, Some(options))]);
        // Once: by the time of a second try a later process may have taken the key.
        self.members
            .call_once(|connection| transact(connection, put))
            .await
    }

    async fn claim(&self, claim: Claim) -> Result<i64, Problem> {
        match claim {
            Claim::First => self.when(Vec::new()).await?.ok_or(Problem::Crossed),
            Claim::Again(written) => self.unless_superseded(written).await,
        }
    }

    /// Puts it if nobody else has put the key since our own newest put.
    async fn unless_superseded(&self, written: Revision) -> Result<i64, Problem> {
        for _ in 0..CLAIMS {
            let found = self
                .members
                .call(|connection| read(connection, self.key.to_owned()));
            let seen = match found.await?.1 {
                None => 0,
                Some(kv) => {
                    let holder = Holder::of(&self.instance.service, &self.instance.id, &kv);
                    let ours = holder.incarnation.is_some()
                        && holder.incarnation == self.instance.incarnation;
                    if !ours && revision(kv.mod_revision()) > written {
                        return Err(Problem::Superseded(holder.text));
                    }
                    kv.mod_revision()
                }
            };
            let unchanged = Compare::mod_revision(self.key, CompareOp::Equal, seen);
            if let Some(revision) = self.when(vec![unchanged]).await? {
                return Ok(revision);
            }
        }
        Err(Problem::Crossed)
    }
}

/// The revision of a transaction whose comparisons held.
pub(super) async fn transact(
    connection: Connection,
    transaction: Txn,
) -> Result<Option<i64>, Failure> {
    let mut client = connection.client.clone();
    let answer = connection.ask(client.txn(transaction)).await?;
    let revision = connection.revision(answer.header())?;
    Ok(answer.succeeded().then_some(revision))
}
