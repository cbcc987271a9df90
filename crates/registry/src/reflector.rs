//! List, then watch, for ever: turns a [`Store`] into an always-current snapshot. Written once, over any store.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Change, Freshness, ServiceName, Snapshot, Store,
    follow::{self, Subject},
};

/// What is known of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its instances, as last known; `None` until the registry has been read once. Never emptied by an error.
    pub snapshot: Option<Snapshot>,
    /// Whether that is current.
    pub freshness: Freshness,
}

/// Follows what is known of one service. Clones follow independently; the last one to go ends the reflector.
#[derive(Debug, Clone)]
pub struct SnapshotWatch {
    view: watch::Receiver<View>,
    _reflector: Arc<Reflector>,
}

impl SnapshotWatch {
    pub(crate) fn new(reflector: Arc<Reflector>) -> Self {
        Self {
            view: reflector.view.subscribe(),
            _reflector: reflector,
        }
    }

    /// What is known now.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Waits for the next change of instances or freshness. Changes in between are merged. Cancellation safe.
    pub async fn changed(&mut self) -> View {
        self.view
            .changed()
            .await
            .expect("the reflector lives as long as its watches");
        self.view.borrow_and_update().clone()
    }

    /// Waits until the registry has been read once, and gives what was found. Cancellation safe.
    pub async fn first(&mut self) -> Snapshot {
        let known = self.view.wait_for(|view| view.snapshot.is_some()).await;
        known
            .expect("the reflector lives as long as its watches")
            .snapshot
            .clone()
            .expect("just waited for")
    }
}

/// The task that follows one service, and what it has found.
#[derive(Debug)]
pub(crate) struct Reflector {
    view: watch::Sender<View>,
    _task: AbortOnDropHandle<()>,
}

impl Reflector {
    /// Starts to follow `service`; ends when dropped.
    pub(crate) fn start(store: Arc<dyn Store>, service: ServiceName) -> Self {
        let view = watch::Sender::new(View {
            snapshot: None,
            freshness: Freshness::Starting,
        });
        let follow = Follow {
            store,
            service,
            view: view.clone(),
        };
        let followed = async move {
            follow::for_ever(
                || follow.store.watch(&follow.service),
                |said| match said {
                    Ok(change) => follow.live(change),
                    Err(cause) => follow.stale(cause),
                },
            )
            .await;
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
    view: watch::Sender<View>,
}

impl Follow {
    fn live(&self, change: Change) {
        self.view.send_if_modified(|view| {
            let freshness = view.freshness.now_live(&self.subject());
            let before = view.snapshot.take();
            let now = before
                .clone()
                .unwrap_or_else(|| Snapshot::empty(self.service.clone()))
                .apply(change);
            let changed = before.as_ref() != Some(&now) || view.freshness != freshness;
            *view = View {
                snapshot: Some(now),
                freshness,
            };
            changed
        });
    }

    fn stale(&self, cause: &str) {
        self.view.send_if_modified(|view| {
            let freshness = view.freshness.now_lost(&self.subject(), cause);
            let changed = view.freshness != freshness;
            view.freshness = freshness;
            changed
        });
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            what: "instances",
            service: &self.service,
            registry: self.store.url(),
        }
    }
}
