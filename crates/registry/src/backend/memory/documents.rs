//! The documents of a process's own registry.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::{Document, Revision, ServiceName};

type Senders = HashMap<ServiceName, watch::Sender<Option<Document>>>;

#[derive(Debug, Default)]
pub(super) struct Documents {
    senders: Mutex<Senders>,
    /// How many documents were ever set.
    written: AtomicU64,
}

impl Documents {
    pub(super) fn get(&self, service: &ServiceName) -> Option<Document> {
        self.with(|senders| senders.get(service)?.borrow().clone())
    }

    pub(super) fn set(&self, service: &ServiceName, document: Option<Document>) {
        self.with(|senders| {
            let written = document.map(|document| {
                let revision = self.written.fetch_add(1, Ordering::Relaxed) + 1;
                document.read_at(service.as_str(), Revision(revision))
            });
            sender(senders, service).send_replace(written)
        });
    }

    /// What there is, and what there will be for as long as this lives.
    pub(super) fn watch(&self, service: &ServiceName) -> watch::Receiver<Option<Document>> {
        self.with(|senders| sender(senders, service).subscribe())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Senders) -> T) -> T {
        act(&mut self.senders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The sender of a service. One that has nothing to say to anybody is forgotten when the next one comes.
fn sender<'a>(
    senders: &'a mut Senders,
    service: &ServiceName,
) -> &'a watch::Sender<Option<Document>> {
    if !senders.contains_key(service) {
        senders.retain(|_, known| known.receiver_count() > 0 || known.borrow().is_some());
    }
    senders.entry(service.clone()).or_default()
}

#[cfg(test)]
mod tests {
    use super::{Document, Documents, ServiceName};

    #[test]
    fn what_is_deleted_or_only_asked_for_takes_no_memory_for_long() {
        let documents = Documents::default();
        let text = Document::new("{}").expect("a document");
        for number in 0..100 {
            let name = ServiceName::new(&format!("asked-{number}")).expect("a name");
            assert_eq!(documents.get(&name), None);
            drop(documents.watch(&name));
            documents.set(&name, Some(text.clone()));
            documents.set(&name, None);
        }
        let kept = ServiceName::new("kept").expect("a name");
        documents.set(&kept, Some(text.clone()));
        drop(documents.watch(&ServiceName::new("last").expect("a name")));
        let known = documents.with(|senders| senders.len());
        assert!(known <= 2, "{known} services are known");
        assert_eq!(documents.get(&kept), Some(text));
    }
}
