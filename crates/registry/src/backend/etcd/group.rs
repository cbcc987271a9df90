//! Leases that registrations share: for up to [`SEATS`] keys one lease, one stream that keeps it alive, and one on which
//! the keys are watched.
//!
//! Whoever has a key in a group has a [`Seat`] there. A key is never twice in one group, so that its lease tells who
//! holds it also among the registrations of one process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    select,
    sync::{Semaphore, SemaphorePermit, watch},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    lease::{Lease, revoke_in_background, whole_seconds},
    members::{Failure, Members},
    places::Places,
    seat::Seat,
};
use crate::{Incarnation, Loss};

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
pub(super) struct Group {
    pub(super) members: Arc<Members>,
    /// In seconds.
    pub(super) ttl: i64,
    standing: watch::Receiver<Standing>,
    pub(super) places: Arc<Places>,
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
        Seat::new(group, keys, holder)
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
    pub(super) fn take(&self, keys: &[Arc<str>], holder: Option<Incarnation>) -> bool {
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

    /// Gives keys free.
    pub(super) fn free(&self, keys: &[Arc<str>]) {
        self.places.remove(keys);
        let mut taken = self.taken();
        for key in keys {
            taken.remove(key);
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Arc<str>, Option<Incarnation>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease, once it is granted.
    pub(super) async fn lease(&self) -> Result<i64, NoLease> {
        let mut standing = self.standing.clone();
        let settled = standing.wait_for(|standing| !matches!(standing, Standing::Asked));
        match settled.await.map(|standing| standing.clone()) {
            Ok(Standing::Granted(lease)) => Ok(lease),
            Ok(Standing::Over(why)) => Err(why),
            Ok(Standing::Asked) | Err(_) => Err(NoLease::Lost("nobody keeps it".into())),
        }
    }

    /// Ends when the lease is lost.
    pub(super) async fn lost(&self) {
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
