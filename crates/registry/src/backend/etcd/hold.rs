//! An instance's keys, one in each dialect, under a lease that they share with those of others.

use std::{sync::Arc, time::Duration};

use etcd_client::KeyValue;
use futures_util::future::BoxFuture;
use tokio::{select, sync::watch};

use super::{
    group::Groups,
    keys::Keys,
    place::{Holder, Place},
    put::{Entry, Problem, Put},
    reader::revision,
    seat::Seat,
};
use crate::{Claim, Hold, HoldRequest, Instance, Loss, Revision, StoreError, dialect::Slot};

/// What all holds of a store have in common.
#[derive(Debug)]
pub(super) struct Holds {
    pub(super) keys: Keys,
    pub(super) groups: Groups,
}

/// Keys that have our lease.
#[derive(Debug)]
pub(super) struct EtcdHold {
    holds: Arc<Holds>,
    instance: Instance,
    slot: Slot,
    seat: Seat,
    /// The keys that may be there.
    left: Vec<Arc<str>>,
    /// Those that are known to be, and watched over.
    watched: Vec<Arc<str>>,
    place: Place,
    told: watch::Receiver<Option<Loss>>,
}

impl EtcdHold {
    /// Puts the instance at its keys and keeps it there.
    pub(super) async fn new(holds: Arc<Holds>, request: HoldRequest) -> Result<Self, StoreError> {
        let (service, id) = (
            request.instance.service.clone(),
            request.instance.id.clone(),
        );
        let held = Box::pin(Self::claimed(holds, request)).await;
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
        let slot = instance.incarnation.map_or_else(Slot::random, Slot::from);
        let reserved = holds.keys.reserved(&instance, slot);
        let mut seat = holds.groups.seat(ttl, reserved, instance.incarnation);
        let lease = seat.lease().await?;
        let entries = holds.keys.written(&instance, slot);
        // Given up halfway, or after an answer that was lost, the keys may be there: the next try keeps them there.
        seat.leaves(Some(ttl));
        let put = Put {
            groups: &holds.groups,
            seat: &seat,
            lease,
            entries: &entries,
            gone: &[],
        };
        let claimed = holds.claim(put, &instance, claim).await;
        let written = claimed.inspect_err(|problem| {
            if problem.is_lease_not_found() {
                seat.has_no_lease();
            }
            if problem.wrote_nothing() {
                seat.leaves(None);
            }
        })?;
        let place = Place {
            keys: holds.keys.clone(),
            service: instance.service.clone(),
            lease,
            holder: instance.incarnation,
            granted: Arc::clone(&holds.groups.granted),
            known: written,
            written,
            tell: watch::Sender::new(None),
        };
        let keys = keys_of(&entries);
        let told = place.tell.subscribe();
        seat.watch_over(&keys, &place);
        seat.leaves(Some(Duration::ZERO));
        Ok(Self {
            holds,
            instance,
            slot,
            seat,
            left: keys.clone(),
            watched: keys,
            place,
            told,
        })
    }

    /// Puts another value in place, and takes away the keys of dialects that cannot say what it says.
    async fn write(&mut self, instance: &Instance) -> Result<(), Problem> {
        let entries = self.holds.keys.written(instance, self.slot);
        let keys = keys_of(&entries);
        self.seat.reserve(&keys).map_err(|()| Problem::Crossed)?;
        let gone = less(&self.left, &keys);
        // That they go is no loss, and until it is known whether they have gone nothing is.
        self.watched.retain(|key| !gone.contains(key));
        self.seat.forget(&gone);
        let came = less(&keys, &self.watched);
        let new = less(&keys, &self.left);
        self.left.extend(new);
        let put = Put {
            groups: &self.holds.groups,
            seat: &self.seat,
            lease: self.place.lease,
            entries: &entries,
            gone: &gone,
        };
        let written = put.after_a_look(|key, found| self.unless_lost(&came, key, found));
        let written = Box::pin(written).await;
        let written = written.inspect_err(|problem| match problem {
            Problem::NotOurs => self.seat.doubt(),
            Problem::Superseded(by) => self.place.lose(&Loss::Superseded(by.clone())),
            problem if problem.is_lease_not_found() => self.seat.has_no_lease(),
            _ => {}
        })?;
        (self.place.known, self.place.written) = (written, written);
        self.seat.watch_over(&came, &self.place);
        (self.left, self.watched) = (keys.clone(), keys);
        Ok(())
    }

    /// Whether a key is as we have left it. One that was not there, or not known to be, may be put; but it is taken when
    /// somebody else has put it meanwhile.
    fn unless_lost(
        &self,
        came: &[Arc<str>],
        key: &Arc<str>,
        found: Option<&KeyValue>,
    ) -> Result<(), Problem> {
        match found {
            Some(kv) if kv.lease() == self.place.lease => Ok(()),
            None if came.contains(key) => Ok(()),
            Some(kv) if came.contains(key) => {
                let holder = Holder::of(&self.holds.keys, &self.instance.service, kv);
                Err(Problem::Superseded(holder.text))
            }
            _ => Err(Problem::NotOurs),
        }
    }
}

impl Holds {
    /// Writes what is claimed, unless another process has it that is not to give way.
    async fn claim(&self, put: Put<'_>, instance: &Instance, claim: Claim) -> Result<i64, Problem> {
        let written = match claim {
            Claim::First => return put.at_once().await,
            // Whatever is there is newer than that.
            Claim::IfAbsent => Revision::default(),
            Claim::Again(written) => written,
        };
        if let Some(again) = put.unless_newer(written).await? {
            return Ok(again);
        }
        put.after_a_look(|key, found| self.unless_superseded(instance, written, key, found))
            .await
    }

    /// Whether nobody else has put the key since our own newest put.
    fn unless_superseded(
        &self,
        instance: &Instance,
        written: Revision,
        key: &Arc<str>,
        found: Option<&KeyValue>,
    ) -> Result<(), Problem> {
        let Some(kv) = found else {
            return Ok(());
        };
        let holder = Holder::of(&self.keys, &instance.service, kv);
        // Most dialects do not say who holds; the lease does, when it is one of this process's own.
        let ours = match holder.incarnation {
            Some(incarnation) => Some(incarnation) == instance.incarnation,
            None => self.groups.is_of(instance.incarnation, kv.lease(), key),
        };
        if !ours && revision(kv.mod_revision()) > written {
            return Err(Problem::Superseded(holder.text));
        }
        Ok(())
    }
}

fn keys_of(entries: &[Entry]) -> Vec<Arc<str>> {
    entries.iter().map(|entry| Arc::clone(&entry.key)).collect()
}

/// Those of `all` that are not among `others`.
fn less(all: &[Arc<str>], others: &[Arc<str>]) -> Vec<Arc<str>> {
    let rest = all.iter().filter(|key| !others.contains(key));
    rest.cloned().collect()
}

impl Hold for EtcdHold {
    fn lost(&mut self) -> BoxFuture<'_, Loss> {
        Box::pin(async {
            select! {
                // Its sender lives in `self`: an error cannot be.
                Ok(loss) = self.told.wait_for(Option::is_some) => loss.clone().expect("just waited for"),
                how = self.seat.lost() => Loss::Gone(how),
            }
        })
    }

    fn written(&self) -> Revision {
        // A put whose answer was lost may have been seen.
        let seen = self.seat.written().unwrap_or_default();
        revision(self.place.written.max(seen))
    }

    fn update(&mut self, instance: Instance) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            let written = self.write(&instance).await;
            self.instance = instance;
            written.map_err(|problem| StoreError::UpdateFailed {
                service: self.instance.service.clone(),
                id: self.instance.id.clone(),
                source: problem.into(),
            })
        })
    }

    fn release(mut self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            self.seat.leaves(Some(Duration::ZERO));
            let deleted = self.seat.delete(self.place.lease).await;
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
    /// A key that was deleted or taken is not ours to delete; another of the same hold may be, and one that is there and
    /// cannot be held any more, unless the next hold takes them over.
    fn drop(&mut self) {
        let left = match &*self.told.borrow() {
            None => return,
            Some(Loss::Deleted(_) | Loss::Superseded(_)) if self.left.len() == 1 => None,
            Some(_) => Some(self.seat.ttl()),
        };
        self.seat.leaves(left);
    }
}
