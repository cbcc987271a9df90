//! List, then watch, for ever: turns a [`Store`] into an always-current snapshot. Written once, over any store.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use crate::{Backoff, BackoffPolicy, Change, ServiceName, Snapshot, Store, one_line};

/// Whether a snapshot is known to be current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing has been read yet, and nothing has failed.
    Starting,
    /// It follows the registry.
    Live,
    /// It is the last that was known, and may have been overtaken.
    Stale {
        /// Since when.
        since: Instant,
        /// Why.
        cause: Arc<str>,
    },
}

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
        Self {
            view,
            _task: AbortOnDropHandle::new(tokio::spawn(follow.for_ever())),
        }
    }
}

struct Follow {
    store: Arc<dyn Store>,
    service: ServiceName,
    view: watch::Sender<View>,
}

impl Follow {
    const BACKOFF: BackoffPolicy = BackoffPolicy {
        initial: Duration::from_millis(50),
        max: Duration::from_millis(1_500),
        multiplier: 1.6,
        jitter: 0.2,
    };

    async fn for_ever(self) {
        let mut backoff = Backoff::new(Self::BACKOFF);
        loop {
            let cause = self.until_broken().await;
            self.stale(&cause);
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Follows one watch from its first list to its end, and tells why it ended.
    async fn until_broken(&self) -> String {
        let mut changes = self.store.watch(&self.service);
        loop {
            match changes.next().await {
                Some(Ok(change)) => self.live(change),
                Some(Err(error)) => return one_line(&error),
                None => return "the watch ended".into(),
            }
        }
    }

    fn live(&self, change: Change) {
        self.view.send_if_modified(|view| {
            let service = &self.service;
            // As loud as what it takes back: whoever was told of the loss is told of its end.
            if let Freshness::Stale { since, .. } = view.freshness {
                let stale = since.elapsed();
                tracing::warn!(%service, revision = %change.revision, ?stale, "following the registry again");
            }
            let before = view.snapshot.take();
            let now = before.clone().unwrap_or_else(|| Snapshot::empty(service.clone())).apply(change);
            let changed = before.as_ref() != Some(&now) || view.freshness != Freshness::Live;
            *view = View { snapshot: Some(now), freshness: Freshness::Live };
            changed
        });
    }

    fn stale(&self, cause: &str) {
        let (service, registry) = (&self.service, self.store.url());
        self.view.send_if_modified(|view| {
            let since = match view.freshness {
                Freshness::Starting | Freshness::Live => Instant::now(),
                Freshness::Stale { since, .. } => since,
            };
            // Once for each outage; the freshness tells the rest.
            match view.freshness {
                Freshness::Starting => {
                    tracing::warn!(%service, registry, cause, "cannot read the registry yet; trying on");
                }
                Freshness::Live => {
                    tracing::warn!(%service, registry, cause, "lost the registry; going on with what was known last");
                }
                Freshness::Stale { .. } => {
                    tracing::debug!(%service, registry, cause, "still without the registry");
                }
            }
            let stale = Freshness::Stale { since, cause: cause.into() };
            let changed = view.freshness != stale;
            view.freshness = stale;
            changed
        });
    }
}
