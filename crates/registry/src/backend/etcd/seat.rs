//! The keys of one registration among those that share a lease.

use std::{sync::Arc, time::Duration};

use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use tokio::{runtime::Handle, select, sync::Mutex, time::sleep};

use super::{
    group::{Group, NoLease},
    members::Failure,
    place::Place,
    put::Problem,
    transaction::transact,
    writes::Write,
};
use crate::{Backoff, BackoffPolicy, Incarnation};

/// Keys of one registration in a group. Dropped, it sees to it that none stays behind that may be there.
#[derive(Debug)]
pub(super) struct Seat {
    /// `None` once it is dropped.
    taken: Option<Taken>,
    /// After which time to delete what may be there; `None` when nothing is.
    left: Option<Duration>,
}

/// Keys that nobody else in the group can have.
#[derive(Debug)]
struct Taken {
    group: Arc<Group>,
    keys: Vec<Arc<str>>,
    holder: Option<Incarnation>,
    /// Held by a write that waits or is under way, also when its owner has given up.
    writing: Arc<Mutex<()>>,
}

impl Seat {
    /// A seat of `holder`, who has taken the keys in `group`.
    pub(super) fn new(group: Arc<Group>, keys: Vec<Arc<str>>, holder: Option<Incarnation>) -> Self {
        let taken = Taken {
            group,
            keys,
            holder,
            writing: Arc::default(),
        };
        Self {
            taken: Some(taken),
            left: None,
        }
    }

    /// The lease of the group.
    pub(super) async fn lease(&self) -> Result<i64, NoLease> {
        self.taken().group.lease().await
    }

    /// Does a write, together with those of others in the group: the revision at which it was done, or `None` when a
    /// comparison did not hold.
    ///
    /// When that is given up, the seat waits until it is known to be over before it deletes anything.
    pub(super) async fn write(&self, write: Write) -> Result<Option<i64>, Problem> {
        let taken = self.taken();
        let pending = Arc::clone(&taken.writing).lock_owned().await;
        taken.group.write(write, pending).await
    }

    /// Says that from now on the keys may be there, and when to delete them when the seat is given up: at once, or after
    /// a time in which another seat may take them over without their having been gone; `None` says that none is there.
    pub(super) fn leaves(&mut self, left: Option<Duration>) {
        self.left = left;
    }

    /// Takes further keys; refused when somebody else in the group has one of them.
    pub(super) fn reserve(&mut self, keys: &[Arc<str>]) -> Result<(), ()> {
        let taken = self.taken.as_mut().expect("it is there until the drop");
        let new = keys.iter().filter(|key| !taken.keys.contains(key));
        let new: Vec<_> = new.cloned().collect();
        if !new.is_empty() && !taken.group.take(&new, taken.holder) {
            return Err(());
        }
        taken.keys.extend(new);
        Ok(())
    }

    /// Watches over keys that have been put: whom `place` tells is told when one is lost.
    pub(super) fn watch_over(&self, keys: &[Arc<str>], place: &Place) {
        self.taken().group.places.add(keys, place);
    }

    /// Watches over those keys no more.
    pub(super) fn forget(&self, keys: &[Arc<str>]) {
        self.taken().group.places.remove(keys);
    }

    /// How long the lease lasts that nobody keeps alive.
    pub(super) fn ttl(&self) -> Duration {
        Duration::from_secs(self.taken().group.ttl.unsigned_abs())
    }

    /// Looks at the keys: there is reason to think that one has been lost.
    pub(super) fn doubt(&self) {
        self.taken().group.places.doubt();
    }

    fn taken(&self) -> &Taken {
        self.taken.as_ref().expect("it is there until the drop")
    }

    /// Deletes the keys, those that still have `lease`, whatever we know of it: etcd may have it still.
    pub(super) async fn delete(&self, lease: i64) -> Result<(), Failure> {
        self.taken().delete(lease).await
    }

    /// Ends when the lease is lost, and says how. Cancellation safe.
    pub(super) async fn lost(&self) -> String {
        self.taken().group.lost().await
    }

    /// Says that etcd does not know the lease.
    pub(super) fn has_no_lease(&self) {
        self.taken().group.end();
    }

    /// The revision of the newest put at one of the keys that was seen.
    pub(super) fn written(&self) -> Option<i64> {
        let Taken { group, keys, .. } = self.taken();
        let seen = keys.iter().filter_map(|key| group.places.written(key));
        seen.max()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (taken, left) = (self.taken.take(), self.left);
        // Outside a runtime nothing can be sent; the lease expires.
        if let (Some(taken), Some(after), Ok(runtime)) = (taken, left, Handle::try_current()) {
            runtime.spawn(taken.clear(after));
        }
    }
}

impl Taken {
    /// Deletes in one step those keys that have our lease.
    async fn delete(&self, lease: i64) -> Result<(), Failure> {
        let ours = |key: &Arc<str>| Compare::lease(&**key, CompareOp::Equal, lease);
        let delete = |key: &Arc<str>| TxnOp::delete(&**key, None);
        let all_ours: Vec<_> = self.keys.iter().map(ours).collect();
        let delete_all: Vec<_> = self.keys.iter().map(delete).collect();
        // When one is not ours any more, each is looked at by itself.
        let each = self.keys.iter().map(|key| {
            let one = Txn::new().when([ours(key)]).and_then([delete(key)]);
            TxnOp::txn(one)
        });
        let txn = Txn::new().when(all_ours).and_then(delete_all);
        let txn = txn.or_else(each.collect::<Vec<_>>());
        let members = &self.group.members;
        let deleted = members.call(|connection| transact(connection, txn.clone()));
        deleted
            .await
            .map(drop)
            .map_err(|failure| failure.about_one_of(&self.keys))
    }

    /// Deletes the keys after a time, and goes on trying for as long as the lease lives: a group that goes on living
    /// would keep alive what its owner has given up.
    async fn clear(self, after: Duration) {
        let mut backoff = Backoff::new(BackoffPolicy {
            initial: Duration::from_millis(50),
            max: Duration::from_secs(1),
            multiplier: 1.6,
            jitter: 0.2,
        });
        let cleared = async {
            sleep(after).await;
            let _over = self.writing.lock().await;
            let Ok(lease) = self.group.lease().await else {
                return;
            };
            while let Err(failure) = self.delete(lease).await {
                if !failure.is_members() {
                    tracing::warn!(keys = ?self.keys, %failure, "keys that were given up stay until this process ends");
                    return;
                }
                tracing::debug!(keys = ?self.keys, %failure, "keys that were given up are there still");
                sleep(backoff.next_delay()).await;
            }
        };
        select! {
            () = cleared => {}
            _ = self.group.lost() => {}
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.group.free(&self.keys);
    }
}
