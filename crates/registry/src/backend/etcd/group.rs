//! Leases that registrations share: for up to [`SEATS`] keys one lease, one stream that keeps it alive, and one on which
//! the keys are watched.
//!
//! Whoever has a key in a group has a [`Seat`] there. A key is never twice in one group, so that its lease tells who
//! holds it also among the registrations of one process.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use tokio::{
    runtime::Handle,
    select,
    sync::{Semaphore, SemaphorePermit, watch},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    lease::{Lease, revoke_in_background, whole_seconds},
    members::{Failure, Members},
    place::Place,
    places::Places,
    put::transact,
};
use crate::{Backoff, BackoffPolicy, Incarnation, Loss};

/// How many keys share a lease. All are lost together when it is; ten thousand registrations are twenty of them.
pub(super) const SEATS: usize = 500;
/// How many writes are on their way at once: enough to fill etcd's batches, few enough that each is answered in time.
const WRITES: usize = 256;
/// How long a write may wait for its turn.
const TURN: Duration = Duration::from_secs(10);

/// The groups of one store.
#[derive(Debug)]
pub(super) struct Groups {
    members: Arc<Members>,
    quiet: Duration,
    all: Mutex<Vec<Weak<Group>>>,
    writes: Semaphore,
}

/// A lease that keys share, and what watches over both.
#[derive(Debug)]
struct Group {
    members: Arc<Members>,
    ttl: i64,
    standing: watch::Receiver<Standing>,
    places: Arc<Places>,
    /// The keys that have a seat, and for whom.
    taken: Mutex<HashMap<Arc<str>, Option<Incarnation>>>,
    _task: AbortOnDropHandle<()>,
}

/// How a group's lease stands.
#[derive(Debug, Clone)]
enum Standing {
    Asked,
    Granted(i64),
    Over(NoLease),
}

/// Why there is no lease.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum NoLease {
    #[error(transparent)]
    Refused(Arc<Failure>),
    #[error("the lease was lost: {0}")]
    Lost(String),
}

impl Groups {
    /// The groups whose keys are looked at after a silence of `quiet`.
    pub(super) fn new(members: Arc<Members>, quiet: Duration) -> Self {
        Self {
            members,
            quiet,
            all: Mutex::default(),
            writes: Semaphore::new(WRITES),
        }
    }

    /// A seat for the `keys` of `holder` under a lease of `ttl`, in a group that is there or in a new one.
    pub(super) fn seat(
        &self,
        ttl: Duration,
        keys: Vec<Arc<str>>,
        holder: Option<Incarnation>,
    ) -> Seat {
        let ttl = whole_seconds(ttl);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = all.iter().filter_map(Weak::upgrade);
        let found = running.find(|group| group.ttl == ttl && group.take(&keys, holder));
        let group = found.unwrap_or_else(|| {
            let group = Arc::new(Group::start(&self.members, ttl, self.quiet));
            group.take(&keys, holder);
            all.retain(|group| group.strong_count() > 0);
            all.push(Arc::downgrade(&group));
            group
        });
        Seat {
            taken: Some(Taken {
                group,
                keys,
                holder,
            }),
            left: None,
        }
    }

    /// Whose key it is that has a lease of one of the groups.
    pub(super) fn holder(&self, lease: i64, key: &Arc<str>) -> Option<Incarnation> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = all.iter().filter_map(Weak::upgrade);
        let is_it = |group: &Arc<Group>| {
            let standing = group.standing.borrow();
            matches!(*standing, Standing::Granted(granted) if granted == lease)
        };
        let group = running.find(is_it)?;
        let holder = group.taken().get(key).copied();
        holder.flatten()
    }

    /// A write's turn; `None` when it does not come within [`TURN`].
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        timeout(TURN, self.writes.acquire()).await.ok()?.ok()
    }
}

impl Group {
    fn start(members: &Arc<Members>, ttl: i64, quiet: Duration) -> Self {
        let (stand, standing) = watch::channel(Standing::Asked);
        let places = Arc::new(Places::new(Arc::clone(members), quiet));
        let kept = keep(Arc::clone(members), ttl, stand, Arc::clone(&places));
        Self {
            members: Arc::clone(members),
            ttl,
            standing,
            places,
            taken: Mutex::default(),
            _task: AbortOnDropHandle::new(tokio::spawn(kept)),
        }
    }

    /// Takes the keys, unless one of them is taken, there is no room, or the lease is no good any more.
    fn take(&self, keys: &[Arc<str>], holder: Option<Incarnation>) -> bool {
        if matches!(*self.standing.borrow(), Standing::Over(_)) {
            return false;
        }
        let mut taken = self.taken();
        let is_room = taken.is_empty() || taken.len() + keys.len() <= SEATS;
        let is_free = is_room && !keys.iter().any(|key| taken.contains_key(key));
        if is_free {
            taken.extend(keys.iter().map(|key| (Arc::clone(key), holder)));
        }
        is_free
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Arc<str>, Option<Incarnation>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease, once it is granted.
    async fn lease(&self) -> Result<i64, NoLease> {
        let mut standing = self.standing.clone();
        let settled = standing.wait_for(|standing| !matches!(standing, Standing::Asked));
        match settled.await.map(|standing| standing.clone()) {
            Ok(Standing::Granted(lease)) => Ok(lease),
            Ok(Standing::Over(why)) => Err(why),
            Ok(Standing::Asked) | Err(_) => Err(NoLease::Lost("nobody keeps it".into())),
        }
    }

    /// Ends when the lease is lost.
    async fn lost(&self) {
        let mut standing = self.standing.clone();
        // An error is the end of what keeps it.
        let over = standing.wait_for(|standing| matches!(standing, Standing::Over(_)));
        let _ = over.await;
    }
}

impl Drop for Group {
    /// The last key is gone; a lease that is lost is left to expire, since what it holds may be under another by now.
    fn drop(&mut self) {
        if let Standing::Granted(lease) = *self.standing.borrow() {
            revoke_in_background(&self.members, lease);
        }
    }
}

/// Has a lease granted and keeps it, and its keys in sight, until it is lost.
async fn keep(
    members: Arc<Members>,
    ttl: i64,
    stand: watch::Sender<Standing>,
    places: Arc<Places>,
) {
    let lease = match Lease::grant(&members, ttl).await {
        Ok(lease) => lease,
        Err(failure) => {
            let refused = NoLease::Refused(Arc::new(failure));
            stand.send_replace(Standing::Over(refused));
            return;
        }
    };
    stand.send_replace(Standing::Granted(lease.id()));
    let how = select! {
        how = lease.keeper().keep() => how,
        never = places.watch_over() => match never {},
    };
    let lost = NoLease::Lost(how.clone());
    stand.send_replace(Standing::Over(lost));
    places.lose_all(&Loss::Gone(how));
}

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
}

impl Seat {
    /// The lease of the group.
    pub(super) async fn lease(&self) -> Result<i64, NoLease> {
        self.taken().group.lease().await
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

    /// Deletes the keys, those that are still ours.
    pub(super) async fn delete(&self) -> Result<(), Failure> {
        match self.lease().await {
            Ok(lease) => self.taken().delete(lease).await,
            // What it held goes with it.
            Err(_) => Ok(()),
        }
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
            let Ok(lease) = self.group.lease().await else {
                return;
            };
            while let Err(failure) = self.delete(lease).await {
                tracing::debug!(keys = ?self.keys, %failure, "keys that were given up are there still");
                sleep(backoff.next_delay()).await;
            }
        };
        select! {
            () = cleared => {}
            () = self.group.lost() => {}
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let keys = mem::take(&mut self.keys);
        self.group.places.remove(&keys);
        let mut taken = self.group.taken();
        for key in keys {
            taken.remove(&key);
        }
    }
}
