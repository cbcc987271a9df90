//! Connections that operations take turns with.
//!
//! sqlx's pool asks the database before and after each use of a connection whether it is still there, and takes it back in a task
//! of its own: that costs more than to read a user does. So an operation that has ended well leaves its connection to the next
//! one as it is. What is in doubt is closed, and each second the pool is given whatever lies idle.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{Database, Pool, pool::PoolConnection};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::StorageError;

/// As many turns as the pool has connections: whoever has one waits for the database alone, and for no other operation.
#[derive(Debug)]
pub(super) struct Turns<DB: Database> {
    pool: Pool<DB>,
    permits: Semaphore,
    /// Those that nobody uses and that were well when somebody did, the last one last.
    idle: Mutex<Vec<PoolConnection<DB>>>,
}

impl<DB: Database> Turns<DB> {
    pub(super) fn new(pool: Pool<DB>) -> Self {
        Self {
            permits: Semaphore::new(pool.options().get_max_connections() as usize),
            pool,
            idle: Mutex::default(),
        }
    }

    /// Waits for a turn, `patience` at most, and then for a connection, as long as the pool allows. Cancellation safe.
    ///
    /// # Errors
    /// [`StorageError::Busy`] when others have all of them; what the pool says when it cannot connect.
    pub(super) async fn take(&self, patience: Duration) -> Result<Turn<'_, DB>, StorageError> {
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => match timeout(patience, self.permits.acquire()).await {
                Ok(Ok(permit)) => permit,
                _ => return Err(StorageError::Busy),
            },
        };
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.pool.acquire().await?,
        };
        Ok(Turn {
            connection: Some(connection),
            turns: self,
            _permit: permit,
        })
    }

    /// Gives the pool whatever lies idle: it looks at each, and closes those that are not well or too old.
    pub(super) fn rest(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    /// Closes whatever lies idle, and asks nobody: a database that is gone without a word would not answer.
    pub(super) fn begin_anew(&self) {
        let mut idle = std::mem::take(&mut *self.idle());
        idle.iter_mut().for_each(PoolConnection::close_on_drop);
    }

    /// Closes every connection that is idle, and each of the others when its operation ends.
    pub(super) async fn close(&self) {
        let closed = self.pool.close();
        // Nobody leaves one here from now on.
        self.rest();
        closed.await;
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PoolConnection<DB>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn count_idle(&self) -> usize {
        self.idle().len()
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> &Semaphore {
        &self.permits
    }
}

/// A connection for one operation. Dropped, it is closed: an operation that was cut off, or has met with trouble, leaves behind
/// nobody knows what, such as a lock.
#[derive(Debug)]
pub(super) struct Turn<'a, DB: Database> {
    /// Until the operation has ended well.
    connection: Option<PoolConnection<DB>>,
    turns: &'a Turns<DB>,
    // The last to go: whoever has the turn next finds the connection.
    _permit: SemaphorePermit<'a>,
}

impl<DB: Database> Turn<'_, DB> {
    /// Leaves the connection to the next operation as it is.
    pub(super) fn end_well(mut self) {
        let mut idle = self.turns.idle();
        if !self.turns.pool.is_closed() {
            idle.extend(self.connection.take());
        }
    }

    /// The same, unless the outcome says that the connection may not be well.
    pub(super) fn end_with<T>(self, outcome: Result<T, StorageError>) -> Result<T, StorageError> {
        if !outcome.as_ref().is_err_and(StorageError::leaves_doubt) {
            self.end_well();
        }
        outcome
    }
}

impl<DB: Database> Drop for Turn<'_, DB> {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

impl<DB: Database> Deref for Turn<'_, DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        self.connection.as_ref().expect("until the end")
    }
}

impl<DB: Database> DerefMut for Turn<'_, DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.connection.as_mut().expect("until the end")
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Sqlite, sqlite::SqlitePoolOptions};

    use super::*;

    fn two_turns() -> Turns<Sqlite> {
        let pool = SqlitePoolOptions::new().max_connections(2);
        Turns::new(pool.connect_lazy("sqlite::memory:").expect("a URL"))
    }

    #[tokio::test]
    async fn a_connection_is_left_to_the_next_operation_when_the_last_has_ended_well() {
        let (turns, patience) = (two_turns(), Duration::from_secs(30));
        let first = turns.take(patience).await.expect("a turn");
        first.end_well();
        assert_eq!(turns.idle().len(), 1);
        let again = turns.take(patience).await.expect("a turn");
        assert_eq!((turns.idle().len(), turns.pool.size()), (0, 1));
        drop(again);
        assert_eq!(
            (turns.idle().len(), turns.permits.available_permits()),
            (0, 2)
        );
        let last = turns.take(patience).await.expect("a turn");
        last.end_well();
        turns.rest();
        assert_eq!(turns.idle().len(), 0);
    }

    #[tokio::test]
    async fn who_finds_no_turn_in_time_is_told() {
        let turns = two_turns();
        let patience = Duration::from_secs(30);
        let _both = tokio::join!(turns.take(patience), turns.take(patience));
        let busy = turns.take(Duration::from_millis(20)).await;
        assert!(matches!(busy, Err(StorageError::Busy)), "{busy:?}");
    }
}
