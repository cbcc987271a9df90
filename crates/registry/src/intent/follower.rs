//! Follows the intents for the instances of one service for ever, for all of a process that ask. Written once, over any
//! store.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::Intents;
use crate::{
    Freshness, ServiceName, Store,
    follow::{self, Subject},
};

/// What is known of the intents for a service's instances.
#[derive(Debug, Clone)]
pub(crate) struct IntentView {
    /// All of them, as last known, an explicit nothing among them; `None` until they have been read once.
    pub(crate) intents: Option<Intents>,
    /// Whether that is current.
    pub(crate) freshness: Freshness,
}

/// The task that follows the intents of one service, and what it has found.
#[derive(Debug)]
pub(crate) struct IntentFollower {
    view: watch::Sender<IntentView>,
    _task: AbortOnDropHandle<()>,
}

impl IntentFollower {
    /// Starts to follow the intents for `service`; ends when dropped.
    pub(crate) fn start(store: Arc<dyn Store>, service: ServiceName) -> Self {
        let view = watch::Sender::new(IntentView {
            intents: None,
            freshness: Freshness::Starting,
        });
        let task = tokio::spawn(run(store, service, view.clone()));
        Self {
            view,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// What is known now, and what will be for as long as this lives.
    pub(crate) fn view(&self) -> watch::Receiver<IntentView> {
        self.view.subscribe()
    }
}

async fn run(store: Arc<dyn Store>, service: ServiceName, view: watch::Sender<IntentView>) {
    let subject = Subject {
        what: "intents",
        service: &service,
        registry: store.url(),
    };
    let said = follow::for_ever(|| store.watch_intents(&service));
    tokio::pin!(said);
    loop {
        let said = said.select_next_some().await;
        view.send_if_modified(|view| {
            let before = view.freshness.clone();
            view.freshness = match &said {
                Ok(_) => view.freshness.now_live(&subject),
                Err(cause) => view.freshness.now_lost(&subject, cause),
            };
            let is_read = said.is_ok();
            view.intents = said.ok().or(view.intents.take());
            is_read || view.freshness != before
        });
    }
}
