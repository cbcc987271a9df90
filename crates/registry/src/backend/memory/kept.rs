//! What a process's own registry keeps for each service beside its instances: its document, or the intents for them.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::{Revision, ServiceName};

type Senders<T> = HashMap<ServiceName, watch::Sender<T>>;

/// A value for each service; the default where there is none.
#[derive(Debug, Default)]
pub(super) struct Kept<T> {
    senders: Mutex<Senders<T>>,
    /// How many changes there ever were.
    changes: AtomicU64,
}

impl<T: Clone + Default + PartialEq> Kept<T> {
    pub(super) fn get(&self, service: &ServiceName) -> T {
        self.with(|senders| {
            let known = senders.get(service);
            known.map_or_else(T::default, |sender| sender.borrow().clone())
        })
    }

    /// Makes a change, which is told its revision.
    pub(super) fn change(&self, service: &ServiceName, change: impl FnOnce(&mut T, Revision)) {
        self.with(|senders| {
            let revision = Revision(self.changes.fetch_add(1, Ordering::Relaxed) + 1);
            sender(senders, service).send_modify(|value| change(value, revision));
        });
    }

    /// What there is, and what there will be for as long as this lives.
    pub(super) fn watch(&self, service: &ServiceName) -> watch::Receiver<T> {
        self.with(|senders| sender(senders, service).subscribe())
    }

    /// The services for which there is something.
    pub(super) fn services(&self) -> Vec<ServiceName> {
        self.with(|senders| {
            let kept = senders
                .iter()
                .filter(|(_, value)| *value.borrow() != T::default());
            kept.map(|(service, _)| service.clone()).collect()
        })
    }

    fn with<U>(&self, act: impl FnOnce(&mut Senders<T>) -> U) -> U {
        act(&mut self.senders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The sender of a service. One that has nothing to say to anybody is forgotten when the next one comes.
fn sender<'a, T: Default + PartialEq>(
    senders: &'a mut Senders<T>,
    service: &ServiceName,
) -> &'a watch::Sender<T> {
    if !senders.contains_key(service) {
        senders.retain(|_, known| known.receiver_count() > 0 || *known.borrow() != T::default());
    }
    senders.entry(service.clone()).or_default()
}

#[cfg(test)]
mod tests {
    use super::{Kept, ServiceName};

    #[test]
    fn what_is_deleted_or_only_asked_for_takes_no_memory_for_long() {
        let kept = Kept::<u8>::default();
        for number in 0..100 {
            let name = ServiceName::new(&format!("asked-{number}")).expect("a name");
            assert_eq!(kept.get(&name), 0);
            drop(kept.watch(&name));
            kept.change(&name, |value, _| *value = 1);
            kept.change(&name, |value, _| *value = 0);
        }
        let there = ServiceName::new("kept").expect("a name");
        kept.change(&there, |value, _| *value = 1);
        drop(kept.watch(&ServiceName::new("last").expect("a name")));
        let known = kept.with(|senders| senders.len());
        assert!(known <= 2, "{known} services are known");
        assert_eq!(kept.get(&there), 1);
    }
}
