//! Follows one document for ever. Written once, over any store.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Document, InvalidDocument};
use crate::{
    Freshness, ServiceName, Store,
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
    /// Whether the registry has been read once.
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

    /// Waits until the registry has been read once, and gives what was found. Cancellation safe.
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
    pub(crate) fn start(store: Arc<dyn Store>, service: ServiceName) -> Self {
        let view = watch::Sender::new(DocumentView {
            document: None,
            refused: None,
            is_known: false,
            freshness: Freshness::Starting,
        });
        let follow = Follow {
            store,
            service,
            view: view.clone(),
        };
        let followed = async move {
            let said = follow::for_ever(|| follow.store.watch_document(&follow.service));
            let heard = said.for_each(async |said| match said {
                Ok(Ok(document)) => follow.live(document),
                Ok(Err(invalid)) => follow.refuse(&invalid),
                Err(cause) => follow.stale(&cause),
            });
            heard.await;
        };
        Self {
            view,
            _task: AbortOnDropHandle::new(tokio::spawn(followed)),
        }
    }
}

struct Follow {
    store: Arc<dyn Store>,
    service: ServiceName,
    view: watch::Sender<DocumentView>,
}

impl Follow {
    fn live(&self, document: Option<Document>) {
        self.update(|view| DocumentView {
            document,
            refused: None,
            is_known: true,
            freshness: view.freshness.now_live(&self.subject()),
        });
    }

    fn stale(&self, cause: &str) {
        self.update(|view| DocumentView {
            freshness: view.freshness.now_lost(&self.subject(), cause),
            ..view.clone()
        });
    }

    /// The registry is read, and has nothing that can be used: what was known last stays, and reading it again would
    /// not make it better.
    fn refuse(&self, invalid: &InvalidDocument) {
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
