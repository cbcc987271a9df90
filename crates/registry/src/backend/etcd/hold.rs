//! An instance's keys under a lease that it shares with others.

use std::{sync::Arc, time::Duration};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{
    group::{Groups, NoLease, Seat},
    keys::Keys,
    members::{Connection, Failure, Members},
    place::{Holder, Place, read},
    reader::revision,
};
use crate::{
    Claim, Hold, HoldRequest, Instance, Loss, Revision, StoreError, dialect::etcd as dialect,
};

/// How often a claim that somebody crosses is made anew.
const CLAIMS: usize = 3;

/// What all holds of a store have in common.
#[derive(Debug)]
pub(super) struct Holds {
    pub(super) members: Arc<Members>,
    pub(super) keys: Keys,
    pub(super) groups: Groups,
}

/// A key that has our lease.
#[derive(Debug)]
pub(super) struct EtcdHold {
    holds: Arc<Holds>,
    key: Arc<str>,
    instance: Instance,
    lease: i64,
    seat: Seat,
    /// The revision of our newest put.
    written: i64,
    told: watch::Receiver<Option<Loss>>,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Etcd(#[from] Failure),
    #[error(transparent)]
    NoLease(#[from] NoLease),
    #[error("too many others are being registered at the same time")]
    Busy,
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
            Self::NoLease(_) | Self::Busy | Self::Crossed | Self::NotOurs | Self::Superseded(_) => {
                true
            }
        }
    }
}

impl EtcdHold {
    /// Puts the instance at its key and keeps it there.
    pub(super) async fn new(holds: Arc<Holds>, request: HoldRequest) -> Result<Self, StoreError> {
        let (service, id) = (
            request.instance.service.clone(),
            request.instance.id.clone(),
        );
        let held = Self::claimed(holds, request).await;
        held.map_err(|problem| match problem {
            Problem::Superseded(holder) => StoreError::Superseded {
                service,
                id,
                holder,
            },
            problem => StoreError::HoldFailed {
                service,
                id,
                source: problem.into(),
            },
        })
    }

    async fn claimed(holds: Arc<Holds>, request: HoldRequest) -> Result<Self, Problem> {
        let HoldRequest {
            instance,
            ttl,
            claim,
        } = request;
        let key: Arc<str> = holds.keys.instance(&instance.service, &instance.id).into();
        let mut seat = holds.groups.seat(ttl, vec![Arc::clone(&key)]);
        let lease = seat.lease().await?;
        let put = Put {
            members: &holds.members,
            key: &key,
            instance: &instance,
            lease,
        };
        let turn = holds.groups.turn().await.ok_or(Problem::Busy)?;
        // Given up halfway, or after an answer that was lost, the key may be there: the next try keeps it there.
        seat.leaves(Some(ttl));
        let claimed = put.claim(claim).await;
        drop(turn);
        let written = claimed.inspect_err(|problem| {
            if problem.wrote_nothing() {
                seat.leaves(None);
            }
        })?;
        let place = Place {
            service: instance.service.clone(),
            id: instance.id.clone(),
            lease,
            holder: instance.incarnation,
            known: written,
            written,
            tell: watch::Sender::new(None),
        };
        let told = seat.watch_over(&place);
        seat.leaves(Some(Duration::ZERO));
        Ok(Self {
            holds,
            key,
            instance,
            lease,
            seat,
            written,
            told,
        })
    }

    async fn write(&self, instance: &Instance) -> Result<i64, Problem> {
        let put = Put {
            members: &self.holds.members,
            key: &self.key,
            instance,
            lease: self.lease,
        };
        let _turn = self.holds.groups.turn().await.ok_or(Problem::Busy)?;
        let ours = Compare::lease(&*self.key, CompareOp::Equal, self.lease);
        let written = put.when(vec![ours]).await?;
        written.ok_or_else(|| {
            self.seat.doubt();
            Problem::NotOurs
        })
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
            self.seat.leaves(Some(Duration::ZERO));
            let deleted = self.seat.delete().await;
            deleted.map_err(|failure| StoreError::ReleaseFailed {
                service: self.instance.service.clone(),
                id: self.instance.id.clone(),
                source: failure.into(),
            })?;
            self.seat.leaves(None);
            Ok(())
        })
    }
}

impl Drop for EtcdHold {
    /// A key that was lost is not ours to delete.
    fn drop(&mut self) {
        if self.told.borrow().is_some() {
            self.seat.leaves(None);
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
        let asked = self
            .members
            .call_once(|connection| transact(connection, put.clone()));
        asked.await.map_err(|failure| failure.about(self.key))
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
