//! Where users are kept: one SQLite file, or a PostgreSQL database that several instances share.
//!
//! The SQL is the same for both; only how they are opened, migrated and what their errors mean differs. Each statement is
//! prepared once a connection, and each operation ends within the storage's limit. A storage that is known to be down is not
//! asked: [`upkeep`](crate::upkeep) finds out when it is back, by a connection of its own. So one that is merely busy is never
//! taken for one that is down.

mod error;
mod pool;
mod prepare;
mod requests;
#[cfg(test)]
mod tests;
mod url;
mod users;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};

pub(crate) use error::StorageError;
use pool::Pool;
pub(crate) use url::StorageUrl;
pub(crate) use users::{Change, HashChange, NewUser, UserRow};

/// A storage. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Storage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What operations go through.
    pool: Pool,
    /// As many as there are connections in that: an operation that has one waits for the storage alone, and for no other.
    turns: Semaphore,
    /// One connection more, by which the storage is prepared and looked at.
    aside: Pool,
    limit: Duration,
    usable: AtomicBool,
    trouble: Notify,
}

/// The same work on whichever pool there is: what sqlx makes of it differs in its types alone.
macro_rules! on {
    ($either:expr, |$pool:ident| $work:expr) => {
        match &$either {
            $crate::storage::pool::Pool::Sqlite { pool: $pool, .. } => $work,
            $crate::storage::pool::Pool::Postgres($pool) => $work,
        }
    };
}
use on;

impl Storage {
    /// The storage at `url`, with so many connections for operations at most and `limit` for each of them. Nothing is opened
    /// yet, and nothing can be asked before [`prepare`](Self::prepare).
    ///
    /// # Errors
    /// When the URL leads nowhere.
    pub(crate) fn new(url: &StorageUrl, connections: u32, limit: Duration) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Inner {
            pool: Pool::new(url, connections, limit)?,
            turns: Semaphore::new(connections as usize),
            aside: Pool::new(url, 1, limit)?,
            limit,
            usable: AtomicBool::new(false),
            trouble: Notify::new(),
        })))
    }

    /// From now on operations are tried, or fail at once.
    pub(crate) fn set_usable(&self, usable: bool) {
        self.0.usable.store(usable, Ordering::Relaxed);
    }

    /// Waits until an operation finds the storage down. Cancellation safe; trouble of which nobody heard is kept.
    pub(crate) async fn trouble(&self) {
        self.0.trouble.notified().await;
    }

    /// Closes every connection, which lets SQLite put its log into the file; takes the limit at most.
    pub(crate) async fn close(&self) {
        let closed = async {
            on!(self.0.pool, |pool| pool.close().await);
            on!(self.0.aside, |pool| pool.close().await);
        };
        if timeout(self.0.limit, closed).await.is_err() {
            tracing::warn!("the storage has not closed in time");
        }
    }

    /// Does `work` within the limit when its turn comes, unless the storage is known to be down. Half of the limit is for
    /// waiting: what has a connection at last has time to use it.
    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        if !self.0.usable.load(Ordering::Relaxed) {
            return Err(StorageError::Down);
        }
        let Ok(Ok(_turn)) = timeout(self.0.limit / 2, self.0.turns.acquire()).await else {
            return Err(StorageError::Busy);
        };
        let outcome = self.limited(work).await;
        if outcome.as_ref().is_err_and(StorageError::is_trouble) {
            self.0.trouble.notify_one();
        }
        outcome
    }

    /// Does `work` within the limit. What is cut off ends on PostgreSQL by a limit of its own, and its connection is not
    /// used again before it has.
    async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        timeout(self.0.limit, work)
            .await
            .unwrap_or(Err(StorageError::TooSlow(self.0.limit)))
    }
}
