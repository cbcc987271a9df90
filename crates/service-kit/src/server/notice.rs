//! Word to calls that their time is over.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, futures::OwnedNotified};
use tonic::Status;

/// It is given once, to all calls that it is for, those that are to come among them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notice(Arc<Given>);

#[derive(Debug, Default)]
struct Given {
    why: OnceLock<String>,
    heard: Arc<Notify>,
}

impl Notice {
    /// Gives it, with the reason that each call is told.
    pub(super) fn give(&self, why: String) {
        let _ = self.0.why.set(why);
        self.0.heard.notify_waiters();
    }

    pub(super) fn is_given(&self) -> bool {
        self.0.why.get().is_some()
    }

    /// What a call ends with that it is for; `None` until it is given.
    pub(super) fn status(&self) -> Option<Status> {
        self.0.why.get().map(Status::unavailable)
    }

    /// Resolves when it is [given](Self::give) after this was made. Cancellation safe.
    pub(super) fn heard(&self) -> OwnedNotified {
        Arc::clone(&self.0.heard).notified_owned()
    }
}
