//! Deadlines of calls, nearly all of which are over long before: kept in a wheel, where a timer for each would cost more
//! than the rest of a call's bookkeeping.

#[cfg(test)]
mod tests;
mod wheel;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;
pub(crate) use wheel::Key;
use wheel::Wheel;

/// What can be overtaken by its deadline.
pub(crate) trait Expire: Send + 'static {
    /// The deadline has passed. Runs on the one task that all deadlines share, so it must not take long.
    fn expire(self);
}

/// Values that expire, unless they are removed before. Clones share them.
///
/// A value expires in the millisecond after its deadline, or one later, as a timer of tokio does. One task sees to it; it
/// ends with the last clone, and what is left is dropped then and does not expire. A value that held a clone would keep
/// all of it alive.
#[derive(Debug)]
pub(crate) struct Deadlines<T: Expire>(Arc<Owner<T>>);

#[derive(Debug)]
struct Owner<T> {
    shared: Arc<Shared<T>>,
    _keeper: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared<T> {
    /// Tick 0; a tick is a millisecond.
    origin: Instant,
    pending: Mutex<Pending<T>>,
    /// Something is due before the keeper would wake up.
    earlier: Notify,
}

#[derive(Debug)]
struct Pending<T> {
    wheel: Wheel<T>,
    /// The tick to which the keeper sleeps; `u64::MAX` is for ever.
    wake_up: u64,
}

impl<T: Expire> Clone for Deadlines<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Expire> Deadlines<T> {
    /// None yet. They are kept by a task on the current runtime.
    pub(crate) fn new() -> Self {
        let shared = Arc::new(Shared::new());
        let keeper = tokio::spawn(Arc::clone(&shared).keep());
        Self(Arc::new(Owner {
            shared,
            _keeper: AbortOnDropHandle::new(keeper),
        }))
    }

    /// Lets `value` expire at `at`, rounded up to the millisecond.
    pub(crate) fn insert(&self, at: Instant, value: T) -> Key {
        self.0.shared.insert(at, value)
    }

    /// Takes a value out; none if it has expired or is about to.
    pub(crate) fn remove(&self, key: Key) -> Option<T> {
        self.0.shared.pending().wheel.remove(key)
    }

    /// Changes a value where it is; none if it has expired or is about to. All others wait meanwhile.
    pub(crate) fn update<R>(&self, key: Key, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.shared.pending().wheel.get_mut(key).map(change)
    }
}

impl<T: Expire> Shared<T> {
    fn new() -> Self {
        Self {
            origin: Instant::now(),
            pending: Mutex::new(Pending {
                wheel: Wheel::new(),
                wake_up: u64::MAX,
            }),
            earlier: Notify::new(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending<T>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, at: Instant, value: T) -> Key {
        let at = whole_millis_up(at.saturating_duration_since(self.origin));
        let mut pending = self.pending();
        let key = pending.wheel.insert(at, value);
        let earlier = at < pending.wake_up;
        if earlier {
            pending.wake_up = at;
        }
        drop(pending);
        if earlier {
            self.earlier.notify_one();
        }
        key
    }

    async fn keep(self: Arc<Self>) {
        let mut due = Vec::new();
        loop {
            let wake_up = self.take_due(&mut due);
            for value in due.drain(..) {
                // Whom an expiry wakes up is not known here, and its panic, reported by then, is not the others' end.
                let _ = catch_unwind(AssertUnwindSafe(|| value.expire()));
            }
            self.rest(wake_up).await;
        }
    }

    /// Moves what is due by now into `due`; gives the tick at which to look again.
    fn take_due(&self, due: &mut Vec<T>) -> u64 {
        let now = whole_millis(self.origin.elapsed());
        let mut pending = self.pending();
        pending.wheel.advance(now, due);
        pending.wake_up = pending.wheel.next_tick().unwrap_or(u64::MAX);
        pending.wake_up
    }

    async fn rest(&self, wake_up: u64) {
        let at = (wake_up < u64::MAX)
            .then(|| self.origin.checked_add(Duration::from_millis(wake_up)))
            .flatten();
        match at {
            Some(at) => select! {
                () = sleep_until(at) => {}
                () = self.earlier.notified() => {}
            },
            None => self.earlier.notified().await,
        }
    }
}

fn whole_millis(time: Duration) -> u64 {
    time.as_secs()
        .saturating_mul(1_000)
        .saturating_add(time.subsec_millis().into())
}

fn whole_millis_up(time: Duration) -> u64 {
    time.as_secs()
        .saturating_mul(1_000)
        .saturating_add(time.subsec_nanos().div_ceil(1_000_000).into())
}
