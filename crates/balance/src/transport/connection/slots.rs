//! How many streams a connection may have, and who waits for one.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

/// Counts a connection's streams against the limit that the server sets; who waits longest is served first.
///
/// A fresh clone of `SendRequest` is always ready, and h2 queues what is above the limit without bound.
#[derive(Debug)]
pub(super) struct StreamSlots {
    free: Semaphore,
    limit: AtomicUsize,
    /// Slots that are to be withdrawn and are still in use.
    owed: AtomicUsize,
}

impl Default for StreamSlots {
    fn default() -> Self {
        Self {
            free: Semaphore::new(Self::UNLIMITED),
            limit: AtomicUsize::new(Self::UNLIMITED),
            owed: AtomicUsize::new(0),
        }
    }
}

impl StreamSlots {
    /// Far from what a semaphore can hold, so that no order of limits and ends overflows it.
    const UNLIMITED: usize = Semaphore::MAX_PERMITS / 2;

    /// A slot, when one is free and nobody waits for it.
    pub(super) fn try_acquire(this: &Arc<Self>) -> Option<StreamSlot> {
        this.free.try_acquire().ok()?.forget();
        Some(StreamSlot::of(this))
    }

    /// Cancellation safe: who stops waiting loses its turn and nothing else.
    pub(super) async fn acquire(this: &Arc<Self>) -> StreamSlot {
        this.free.acquire().await.expect("never closed").forget();
        StreamSlot::of(this)
    }

    /// The server's limit; `None` while it has set none.
    pub(super) fn limit(&self) -> Option<usize> {
        let limit = self.limit.load(Ordering::Relaxed);
        (limit < Self::UNLIMITED).then_some(limit)
    }

    /// How many slots could be taken at once.
    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// How many slots are taken; more than the limit while the server has lowered it below them. As of now: others take
    /// slots and give them back meanwhile.
    pub(super) fn in_use(&self) -> usize {
        let limit = self.limit.load(Ordering::Acquire);
        let owed = self.owed.load(Ordering::Acquire);
        (limit + owed).saturating_sub(self.free.available_permits())
    }

    /// Follows the server's limit; called by the one task that drives the connection.
    pub(super) fn set_limit(&self, limit: usize) {
        let limit = limit.min(Self::UNLIMITED);
        let before = self.limit.swap(limit, Ordering::Relaxed);
        if limit < before {
            let withdrawn = self.free.forget_permits(before - limit);
            self.owed
                .fetch_add(before - limit - withdrawn, Ordering::AcqRel);
        } else if limit > before {
            let more = limit - before;
            let pay = |owed: usize| Some(owed.saturating_sub(more));
            let owed = self
                .owed
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, pay);
            self.free
                .add_permits(more.saturating_sub(owed.unwrap_or_default()));
        }
    }
}

/// The right to one stream. Not `Clone`: it is given back once, by the last of those who share it.
#[derive(Debug)]
pub(in crate::transport) struct StreamSlot {
    slots: Arc<StreamSlots>,
    /// Each of those who share it has one.
    shared: Option<Arc<()>>,
}

impl StreamSlot {
    fn of(slots: &Arc<StreamSlots>) -> Self {
        Self {
            slots: Arc::clone(slots),
            shared: None,
        }
    }

    /// The same for somebody else as well.
    pub(in crate::transport) fn share(&mut self) -> Self {
        let shared = self.shared.get_or_insert_default();
        Self {
            slots: Arc::clone(&self.slots),
            shared: Some(Arc::clone(shared)),
        }
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take()
            && Arc::into_inner(shared).is_none()
        {
            return;
        }
        let slots = &self.slots;
        let owed = |owed: usize| owed.checked_sub(1);
        if slots
            .owed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, owed)
            .is_err()
        {
            slots.free.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, StreamSlots};

    #[test]
    fn a_limit_that_moves_while_slots_are_taken_is_kept() {
        let slots = Arc::new(StreamSlots::default());
        assert_eq!((slots.limit(), slots.in_use()), (None, 0));
        let mut taken: Vec<_> = (0..4)
            .map(|_| StreamSlots::try_acquire(&slots).expect("no limit yet"))
            .collect();
        slots.set_limit(2);
        assert_eq!((slots.limit(), slots.in_use()), (Some(2), 4));
        taken.truncate(2);
        assert_eq!(slots.in_use(), 2);
        assert!(StreamSlots::try_acquire(&slots).is_none());
        slots.set_limit(3);
        taken.push(StreamSlots::try_acquire(&slots).expect("the limit was raised"));
        assert!(StreamSlots::try_acquire(&slots).is_none());
        slots.set_limit(0);
        drop(taken);
        assert_eq!((slots.limit(), slots.in_use()), (Some(0), 0));
        assert!(StreamSlots::try_acquire(&slots).is_none());
    }
}
