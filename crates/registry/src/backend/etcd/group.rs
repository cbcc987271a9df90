//! Leases that registrations share: for up to [`SEATS`] keys one lease, one stream that keeps it alive, and one on which
//! the keys are watched.
//!
//! Whoever has a key in a group has a [`Seat`] there. A key is never twice in one group, so that its lease tells who
//! holds it also among the registrations of one process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    select,
    sync::{Notify, OwnedMutexGuard, Semaphore, SemaphorePermit, watch},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    lease::{EXPIRED, Lease, revoke_in_background, whole_seconds},
    members::{Failure, Members},
    places::Places,
    put::Problem,
    seat::Seat,
    writes::{PATIENCE, Sender, Write, Writes},
};
use crate::Incarnation;

/// How many keys share a lease. All are lost together when it is; ten thousand registrations are twenty of them.
pub(super) const SEATS: usize = 500;
/// How many look at their keys before they write at once: enough to fill etcd's batches, few enough that each is answered
/// in time.
const LOOKS: usize = 256;
/// How many leases of before are known for this process's own; a key that has one is soon gone, or taken over.
const REMEMBERED: usize = 4_096;

/// The groups of one store.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) members: Arc<Members>,
    quiet: Duration,
    all: Mutex<Vec<Weak<Group>>>,
    pub(super) granted: Arc<Granted>,
    looks: Semaphore,
}

/// The leases that this process was ever granted, the newest [`REMEMBERED`] of them.
#[derive(Debug, Default)]
pub(super) struct Granted(Mutex<VecDeque<i64>>);

impl Granted {
    fn add(&self, lease: i64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == REMEMBERED {
            all.pop_front();
        }
        all.push_back(lease);
    }

    pub(super) fn knows(&self, lease: i64) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.contains(&lease)
    }
}

/// A lease that keys share, and what watches over both.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) members: Arc<Members>,
    /// In seconds.
    pub(super) ttl: i64,
    standing: watch::Receiver<Standing>,
    /// Told when etcd has said that there is no such lease.
    unknown: Arc<Notify>,
    pub(super) places: Arc<Places>,
    writes: Writes,
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
            granted: Arc::default(),
            looks: Semaphore::new(LOOKS),
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
        let found = running.find(|group| group.ttl == ttl && group.admit(&keys, holder));
        let group = found.unwrap_or_else(|| {
            let group = Arc::new(Group::start(&self.members, ttl, self.quiet, &self.granted));
            group.take(&keys, holder);
            all.retain(|group| group.strong_count() > 0);
            all.push(Arc::downgrade(&group));
            group
        });
        Seat::new(group, keys, holder)
    }

    /// Whether it is `holder` who has put a key that has this lease: in a group that lives, whoever has the key's seat, and
    /// in one that is over nobody else in this process can have it.
    pub(super) fn is_of(&self, holder: Option<Incarnation>, lease: i64, key: &Arc<str>) -> bool {
        let running = {
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            let mut running = all.iter().filter_map(Weak::upgrade);
            running.find(|group| group.has(lease))
        };
        match running {
            Some(group) => group.taken().get(key).is_some_and(|of| *of == holder),
            None => self.granted.knows(lease),
        }
    }

    /// The turn of one that is to look before it writes; `None` when it does not come within [`PATIENCE`].
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        timeout(PATIENCE, self.looks.acquire()).await.ok()?.ok()
    }
}

impl Group {
    fn start(members: &Arc<Members>, ttl: i64, quiet: Duration, granted: &Arc<Granted>) -> Self {
        let (stand, standing) = watch::channel(Standing::Asked);
        let places = Arc::new(Places::new(Arc::clone(members), quiet));
        let unknown = Arc::new(Notify::new());
        let (writes, sender) = Writes::new(Arc::clone(members));
        let kept = keep(
            Arc::clone(members),
            ttl,
            stand,
            Arc::clone(&places),
            sender,
            Arc::clone(&unknown),
            Arc::clone(granted),
        );
        Self {
            members: Arc::clone(members),
            ttl,
            standing,
            unknown,
            places,
            writes,
            taken: Mutex::default(),
            _task: AbortOnDropHandle::new(tokio::spawn(kept)),
        }
    }

    fn has(&self, lease: i64) -> bool {
        matches!(*self.standing.borrow(), Standing::Granted(granted) if granted == lease)
    }

    /// Takes the keys for somebody who comes, unless there is no room.
    fn admit(&self, keys: &[Arc<str>], holder: Option<Incarnation>) -> bool {
        let taken = self.taken().len();
        let is_room = taken == 0 || taken + keys.len() <= SEATS;
        is_room && self.take(keys, holder)
    }

    /// Takes the keys, unless one of them is taken or the lease is no good any more.
    pub(super) fn take(&self, keys: &[Arc<str>], holder: Option<Incarnation>) -> bool {
        if matches!(*self.standing.borrow(), Standing::Over(_)) {
            return false;
        }
        let mut taken = self.taken();
        let is_free = !keys.iter().any(|key| taken.contains_key(key));
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

    /// Ends when the lease is lost, and says how. Cancellation safe.
    pub(super) async fn lost(&self) -> String {
        let mut standing = self.standing.clone();
        let over = standing.wait_for(|standing| matches!(standing, Standing::Over(_)));
        match over.await.map(|standing| standing.clone()) {
            Ok(Standing::Over(NoLease::Lost(how))) => how,
            Ok(Standing::Over(refused)) => refused.to_string(),
            Ok(Standing::Asked | Standing::Granted(_)) | Err(_) => "nobody keeps it".into(),
        }
    }

    /// Does a write, together with those of others: the revision at which it was done, or `None` when a comparison did not
    /// hold.
    pub(super) async fn write(
        &self,
        write: Write,
        pending: OwnedMutexGuard<()>,
    ) -> Result<Option<i64>, Problem> {
        match self.writes.write(write, pending).await {
            Some(done) => done,
            None => Err(Problem::LeaseLost(self.lost().await)),
        }
    }

    /// Ends the group: etcd has said that there is no such lease.
    pub(super) fn end(&self) {
        self.unknown.notify_one();
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
    sender: Sender,
    unknown: Arc<Notify>,
    granted: Arc<Granted>,
) {
    let lease = match Lease::grant(&members, ttl).await {
        Ok(lease) => lease,
        Err(failure) => {
            let refused = NoLease::Refused(Arc::new(failure));
            stand.send_replace(Standing::Over(refused));
            return;
        }
    };
    granted.add(lease.id());
    stand.send_replace(Standing::Granted(lease.id()));
    let how = select! {
        how = lease.keeper().keep() => how,
        () = unknown.notified() => EXPIRED.into(),
        never = places.watch_over() => match never {},
        never = sender.send_all() => match never {},
    };
    stand.send_replace(Standing::Over(NoLease::Lost(how)));
}
