//! Where users are kept: one SQLite file, or a PostgreSQL database that several instances share.
//!
//! The SQL is the same for both; only how they are opened, migrated and what their errors mean differs. Each statement is
//! prepared once a connection, and each operation ends within the storage's limit. A storage that is known to be down is not
//! asked: [`upkeep`](crate::upkeep) finds out when it is back, by a connection of its own. So one that is merely busy is never
//! taken for one that is down.

mod error;
mod etag;
mod pool;
mod prepare;
mod requests;
#[cfg(test)]
mod tests;
mod turns;
mod url;
mod users;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::Database;
use tokio::{sync::Notify, time::timeout};

pub(crate) use error::StorageError;
pub(crate) use etag::another as another_etag;
use pool::Pool;
pub(crate) use requests::FORGOTTEN_AT_ONCE;
use turns::{Turn, Turns};
pub(crate) use url::StorageUrl;
pub(crate) use users::{Change, HashChange, NewUser, UserRow};

/// A storage. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Storage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: Pool,
    limit: Duration,
    usable: AtomicBool,
    trouble: Notify,
}

/// The same work on whichever database there is: what sqlx makes of it differs in its types alone. `operation` is what is done
/// for a call, with a connection when its turn comes; `aside` is what is done for the storage itself, with a pool of one.
macro_rules! on {
    (operation $storage:ident, |$connection:ident| $work:expr) => {
        match &$storage.0.pool {
            $crate::storage::pool::Pool::Sqlite { turns, .. } => {
                let mut $connection = $storage.turn(turns).await?;
                let outcome = $storage.limited(async { $work }).await;
                $storage.after($connection, outcome)
            }
            $crate::storage::pool::Pool::Postgres { turns, .. } => {
                let mut $connection = $storage.turn(turns).await?;
                let outcome = $storage.limited(async { $work }).await;
                $storage.after($connection, outcome)
            }
        }
    };
    (aside $storage:ident, |$connection:ident| $work:expr) => {
        match &$storage.0.pool {
            $crate::storage::pool::Pool::Sqlite { aside, .. } => {
                let mut $connection = aside.take($storage.0.limit).await?;
                let outcome = $storage.limited(async { $work }).await;
                $connection.end_with(outcome)
            }
            $crate::storage::pool::Pool::Postgres { aside, .. } => {
                let mut $connection = aside.take($storage.0.limit).await?;
                let outcome = $storage.limited(async { $work }).await;
                $connection.end_with(outcome)
            }
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
            limit,
            usable: AtomicBool::new(false),
            trouble: Notify::new(),
        })))
    }

    /// From now on operations are tried, or fail at once.
    pub(crate) fn set_usable(&self, usable: bool) {
        self.0.usable.store(usable, Ordering::Relaxed);
        // What was well before may not be any more.
        self.begin_anew();
    }

    /// Closes every connection that nobody uses.
    fn begin_anew(&self) {
        match &self.0.pool {
            Pool::Sqlite { turns, aside, .. } => {
                turns.begin_anew();
                aside.begin_anew();
            }
            Pool::Postgres { turns, aside } => {
                turns.begin_anew();
                aside.begin_anew();
            }
        }
    }

    /// Has every connection looked at that no operation uses.
    pub(crate) fn rest(&self) {
        match &self.0.pool {
            Pool::Sqlite { turns, .. } => turns.rest(),
            Pool::Postgres { turns, .. } => turns.rest(),
        }
    }

    /// Waits until an operation finds the storage down. Cancellation safe; trouble of which nobody heard is kept.
    pub(crate) async fn trouble(&self) {
        self.0.trouble.notified().await;
    }

    /// Closes every connection, which lets SQLite put its log into the file; takes the limit at most.
    pub(crate) async fn close(&self) {
        let closed = async {
            match &self.0.pool {
                Pool::Sqlite { turns, aside, .. } => {
                    turns.close().await;
                    aside.close().await;
                }
                Pool::Postgres { turns, aside } => {
                    turns.close().await;
                    aside.close().await;
                }
            }
        };
        if timeout(self.0.limit, closed).await.is_err() {
            tracing::warn!("the storage has not closed in time");
        }
    }

    /// A connection for an operation, unless the storage is known to be down. Half of the limit is for waiting: who has a
    /// connection at last has all of the limit to use it.
    async fn turn<'a, DB: Database>(
        &self,
        turns: &'a Turns<DB>,
    ) -> Result<Turn<'a, DB>, StorageError> {
        if !self.0.usable.load(Ordering::Relaxed) {
            return Err(StorageError::Down);
        }
        let turn = turns.take(self.0.limit / 2).await;
        turn.inspect_err(|error| self.heed(error))
    }

    /// Leaves the connection to the next operation, unless the outcome says that it may not be well.
    fn after<DB: Database, T>(
        &self,
        turn: Turn<'_, DB>,
        outcome: Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        turn.end_with(outcome).inspect_err(|error| self.heed(error))
    }

    /// Has the storage looked at when that is due, and operations go on by connections that are new.
    fn heed(&self, error: &StorageError) {
        if error.is_trouble() {
            self.begin_anew();
            self.0.trouble.notify_one();
        }
    }

    /// Does `work` within the limit. What is cut off ends on PostgreSQL by a limit of its own, and its connection is closed.
    async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        timeout(self.0.limit, work)
            .await
            .unwrap_or(Err(StorageError::TooSlow(self.0.limit)))
    }
}
