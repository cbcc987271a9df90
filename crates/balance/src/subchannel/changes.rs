//! Which endpoints have changed since the driver looked last.

use std::sync::{Mutex, PoisonError};

use registry::InstanceId;
use tokio::sync::Notify;

/// Tells one driver, who then looks at those that changed and not at all ten thousand. It is bounded because the driver
/// looks after at most a quarter of a second, and an endpoint changes a few times in that.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    told: Notify,
    changed: Mutex<Vec<InstanceId>>,
}

impl Changes {
    /// The endpoint of that instance is to be looked at.
    pub(crate) fn tell(&self, id: &InstanceId) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.last() != Some(id) {
            changed.push(id.clone());
        }
        drop(changed);
        self.told.notify_one();
    }

    /// Waits until something has changed. Cancellation safe.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }

    /// Those that have changed since this was last asked; some may be named twice.
    pub(crate) fn take(&self) -> Vec<InstanceId> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
