//! Follows one document for ever. Written once, over any store.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::{select, sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{Document, InvalidDocument};
use crate::{
    Freshness, ServiceName, Store,
    cache::{Cache, GRACE, KeptDocument, ONLY_KEPT, Slot},
    follow::{self, Subject},
};

/// What is known of a service's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentView {
    /// The document, as last known; `None` when there is none, and as long as it is not known whether there is one.
    /// Neither an error nor something that is no [`Document`] ever takes it away.
    pub document: Option<Document>,
    /// Why what is there now is no document, where it is none.
    pub refused: Option<InvalidDocument>,
    /// Whether the registry has been read once, by this process or by an earlier one that has left a
    /// [cache](crate::Registry::with_cache).
    pub is_known: bool,
    /// Whether that is current.
    pub freshness: Freshness,
}

/// Follows what is known of one service's document. Clones follow independently; the last one to go ends the reflector.
#[derive(Debug, Clone)]
pub struct DocumentWatch {
    view: watch::Receiver<DocumentView>,
    _reflector: Arc<DocumentReflector>,
}

impl DocumentWatch {
    pub(crate) fn new(reflector: Arc<DocumentReflector>) -> Self {
        Self {
            view: reflector.view.subscribe(),
            _reflector: reflector,
        }
    }

    /// What is known now.
    pub fn view(&self) -> DocumentView {
        self.view.borrow().clone()
    }

    /// Waits for the next change of the document or its freshness. Changes in between are merged. Cancellation safe.
    pub async fn changed(&mut self) -> DocumentView {
        self.view
            .changed()
            .await
            .expect("the reflector lives as long as its watches");
        self.view.borrow_and_update().clone()
    }

    /// Waits until the document is known, and gives what was found. Cancellation safe.
    pub async fn first(&mut self) -> Option<Document> {
        let known = self.view.wait_for(|view| view.is_known).await;
        known
            .expect("the reflector lives as long as its watches")
            .document
            .clone()
    }
}

/// The task that follows one service's document, and what it has found.
#[derive(Debug)]
pub(crate) struct DocumentReflector {
    view: watch::Sender<DocumentView>,
    _task: AbortOnDropHandle<()>,
}

impl DocumentReflector {
    /// Starts to follow the document of `service`; ends when dropped.
    pub(crate) fn start(store: Arc<dyn Store>, cache: Option<Cache>, service: ServiceName) -> Self {
        let view = watch::Sender::new(DocumentView {
            document: None,
            refused: None,
            is_known: false,
            freshness: Freshness::Starting,
        });
        let follow = Follow {
            slot: Slot::new(cache, service.clone()),
            kept: None,
            is_kept: false,
            store,
            service,
            view: view.clone(),
        };
        Self {
            view,
            _task: AbortOnDropHandle::new(tokio::spawn(follow.run())),
        }
    }
}

struct Follow {
    store: Arc<dyn Store>,
    service: ServiceName,
    slot: Slot<KeptDocument>,
    /// What was kept of an earlier run, until it is shown or something newer is known.
    kept: Option<KeptDocument>,
    /// Whether what is shown is that.
    is_kept: bool,
    view: watch::Sender<DocumentView>,
}

impl Follow {
    async fn run(mut self) {
        self.kept = self.slot.load().await;
        let (store, service) = (Arc::clone(&self.store), self.service.clone());
        let said = follow::for_ever(|| store.watch_document(&service));
        let grace = sleep(GRACE);
        tokio::pin!(said, grace);
        loop {
            select! {
                said = said.select_next_some() => match said {
                    Ok(Ok(document)) => self.live(document),
                    Ok(Err(invalid)) => self.refuse(&invalid),
                    Err(cause) => self.stale(&cause),
                },
                () = &mut grace, if self.kept.is_some() => self.stale("it has not been read yet"),
                () = self.slot.is_due() => {
                    let document = self.view.borrow().document.clone();
                    self.slot.write(KeptDocument(document));
                }
            }
        }
    }

    fn live(&mut self, document: Option<Document>) {
        (self.kept, self.is_kept) = (None, false);
        self.slot.now_differs();
        self.update(|view| DocumentView {
            document,
            refused: None,
            is_known: true,
            freshness: view.freshness.now_live(&self.subject()),
        });
    }

    fn stale(&mut self, cause: &str) {
        let kept = self.kept.take();
        self.is_kept |= kept.is_some();
        let cause = if self.is_kept {
            &format!("{ONLY_KEPT}: {cause}")
        } else {
            cause
        };
        self.update(|view| DocumentView {
            is_known: view.is_known || kept.is_some(),
            document: kept.map_or_else(|| view.document.clone(), |KeptDocument(kept)| kept),
            freshness: view.freshness.now_lost(&self.subject(), cause),
            ..view.clone()
        });
    }

    /// The registry is read, and has nothing that can be used: what was known last stays, and reading it again would
    /// not make it better.
    fn refuse(&mut self, invalid: &InvalidDocument) {
        if self.kept.is_some() {
            self.stale(&invalid.to_string());
        }
        let (service, registry) = (&self.service, self.store.url());
        let changed = self.update(|view| DocumentView {
            refused: Some(invalid.clone()),
            freshness: view.freshness.now_stale(&invalid.to_string()),
            ..view.clone()
        });
        if changed {
            tracing::warn!(%service, registry, %invalid, "cannot use what is there for a document; going on with what was known last");
        }
    }

    fn update(&self, next: impl FnOnce(&DocumentView) -> DocumentView) -> bool {
        self.view.send_if_modified(|view| {
            let now = next(view);
            // What is written anew, word for word, is the same, and has another revision.
            let origin = |view: &DocumentView| view.document.as_ref()?.origin().cloned();
            let changed = *view != now || origin(view) != origin(&now);
            *view = now;
            changed
        })
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            what: "document",
            service: &self.service,
            registry: self.store.url(),
        }
    }
}
