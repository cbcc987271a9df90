//! List, then watch, for ever: turns a [`Store`] into an always-current snapshot. Written once, over any store.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::WatchStream;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Change, Freshness, Intents, ServiceName, Snapshot, Store,
    cache::{Cache, GRACE, ONLY_KEPT, Slot},
    follow::{self, Subject},
    intent::{IntentFollower, IntentView, Merged},
};

/// How long instances that are known wait for what operators want of them, before they are shown without.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its instances, as last known, each with the status and the weight that an operator [wants](crate::Intent) where one
    /// does; `None` until the registry has been read once. Never emptied by an error.
    ///
    /// What operators want was read too, unless that could not be done within two seconds; then the freshness says so. With a
    /// [cache](crate::Registry::with_cache) it may be what an earlier process has read; then the freshness says that.
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
    pub(crate) fn start(
        store: Arc<dyn Store>,
        wanted: Arc<IntentFollower>,
        cache: Option<Cache>,
        service: ServiceName,
    ) -> Self {
        let view = watch::Sender::new(View {
            snapshot: None,
            freshness: Freshness::Starting,
        });
        let follow = Follow {
            merged: Merged::new(Snapshot::empty(service.clone()), Intents::default()),
            instances: Side::unread("the instances have not been read yet"),
            intents: Side::unread("the intents have not been read yet"),
            patience: Patience::Untried,
            slot: Slot::new(cache, service.clone()),
            is_kept: false,
            store,
            wanted,
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
    wanted: Arc<IntentFollower>,
    service: ServiceName,
    merged: Merged,
    instances: Side,
    intents: Side,
    patience: Patience,
    slot: Slot<Merged>,
    /// Whether there is something of an earlier run, for what has not been read yet.
    is_kept: bool,
    view: watch::Sender<View>,
}

/// How one of the two watches stands.
struct Side {
    /// Whether it has said anything yet.
    is_read: bool,
    /// Why what it has said may not be all.
    trouble: Option<Arc<str>>,
    /// What is said while there is neither.
    unread: &'static str,
}

/// How long to wait for the rest before what there is is shown.
#[derive(Clone, Copy, PartialEq)]
enum Patience {
    Untried,
    Until(Instant),
    Over,
}

/// What one of the two watches says.
enum Said {
    Instances(Result<Change, String>),
    Intents(IntentView),
}

impl Follow {
    async fn run(mut self) {
        if let Some(kept) = self.slot.load().await {
            self.merged = kept;
            self.is_kept = true;
            self.patience.begins(GRACE);
        }
        let (store, service) = (Arc::clone(&self.store), self.service.clone());
        let instances = follow::for_ever(|| store.watch(&service)).map(Said::Instances);
        let intents = WatchStream::new(self.wanted.view()).map(Said::Intents);
        let said = stream::select(instances, intents);
        tokio::pin!(said);
        loop {
            select! {
                said = said.select_next_some() => self.hear(said),
                () = self.patience.over() => self.patience = Patience::Over,
                () = self.slot.is_due() => self.slot.write(self.merged.clone()),
            }
            self.publish();
        }
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Instances(Ok(change)) => {
                self.merged.said(change);
                self.instances.is_current();
                self.patience.begins(PATIENCE);
            }
            Said::Instances(Err(cause)) => self.instances.trouble = Some(cause.into()),
            Said::Intents(IntentView { intents, freshness }) => {
                if let Some(intents) = intents {
                    self.merged.wanted(intents);
                    self.intents.is_current();
                }
                if let Freshness::Stale { cause, .. } = freshness {
                    self.intents.trouble = Some(cause);
                }
            }
        }
        if self.is_kept || self.are_read() {
            self.slot.now_differs();
        }
    }

    fn are_read(&self) -> bool {
        self.instances.is_read && self.intents.is_read
    }

    fn publish(&self) {
        let is_shown = self.are_read()
            || self.patience == Patience::Over
            || self.is_kept && self.instances.trouble.is_some();
        let trouble = if is_shown {
            self.instances.doubt().or(self.intents.doubt())
        } else {
            self.instances.trouble.as_deref()
        };
        let is_kept = self.is_kept && !self.are_read();
        let only_kept = |cause| format!("{ONLY_KEPT}: {cause}");
        self.view.send_if_modified(|view| {
            let freshness = match trouble {
                Some(cause) if is_kept => {
                    view.freshness.now_lost(&self.subject(), &only_kept(cause))
                }
                Some(cause) => view.freshness.now_lost(&self.subject(), cause),
                None if is_shown => view.freshness.now_live(&self.subject()),
                // Not worth a word: the rest may be read in a moment.
                None => return false,
            };
            let now = View {
                snapshot: is_shown.then(|| self.merged.snapshot().clone()),
                freshness,
            };
            let changed = *view != now;
            *view = now;
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

impl Side {
    fn unread(unread: &'static str) -> Self {
        Self {
            is_read: false,
            trouble: None,
            unread,
        }
    }

    fn is_current(&mut self) {
        self.is_read = true;
        self.trouble = None;
    }

    /// Why what is known of it may not be all.
    fn doubt(&self) -> Option<&str> {
        let unread = (!self.is_read).then_some(self.unread);
        self.trouble.as_deref().or(unread)
    }
}

impl Patience {
    fn begins(&mut self, patience: Duration) {
        if *self == Self::Untried {
            *self = Self::Until(Instant::now() + patience);
        }
    }

    /// Waits until there is none left. Cancellation safe.
    async fn over(self) {
        match self {
            Self::Until(end) => sleep_until(end).await,
            Self::Untried | Self::Over => pending().await,
        }
    }
}
