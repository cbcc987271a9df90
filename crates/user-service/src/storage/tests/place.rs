//! A place to keep users in that goes with its test, and instances that share it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sqlx::Database;
use tempfile::TempDir;
use testkit::{postgres::Postgres, until};
use tokio::sync::{Mutex, Semaphore};

use crate::storage::{
    Pool, Storage, StorageError, StorageUrl, on,
    turns::{Turn, Turns},
};

/// More than anything takes on a busy machine.
pub(super) const BOUND: Duration = Duration::from_secs(30);
/// How many each storage has for operations.
pub(super) const CONNECTIONS: u32 = 4;

/// One file, or one database.
#[derive(Clone)]
pub(super) struct Place {
    url: StorageUrl,
    _kept: Kept,
}

#[derive(Clone)]
#[expect(dead_code, reason = "kept for as long as the place is used")]
enum Kept {
    Directory(Arc<TempDir>),
    Server(Arc<Postgres>),
}

impl Place {
    pub(super) fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = StorageUrl::Sqlite(directory.path().join("deep").join("users.db"));
        let kept = Kept::Directory(Arc::new(directory));
        Self { url, _kept: kept }
    }

    pub(super) async fn postgres() -> Self {
        let server = shared_server().await;
        let url = server.database().await.expect("a database");
        Self {
            url: url.parse().expect("a URL"),
            _kept: Kept::Server(server),
        }
    }

    /// Another instance's storage of this place, prepared.
    pub(super) async fn storage(&self) -> Storage {
        prepared(&self.url, BOUND).await
    }

    /// One that gives up before it has asked anything.
    pub(super) fn hasty_storage(&self) -> Storage {
        let limit = Duration::from_millis(20);
        let storage = Storage::new(&self.url, CONNECTIONS, limit);
        let storage = storage.expect("a URL that leads somewhere");
        storage.set_usable(true);
        storage
    }
}

impl Storage {
    /// Has the database do what that says.
    pub(super) async fn does(&self, sql: &'static str) {
        let done: Result<(), StorageError> = async {
            on!(aside self, |connection| Ok(sqlx::query(sql)
                .execute(&mut *connection)
                .await
                .map(drop)?))
        }
        .await;
        done.expect(sql);
    }

    /// Has used so many connections at the same time, and well.
    pub(super) async fn leaves_idle(&self, connections: usize) {
        match &self.0.pool {
            Pool::Sqlite { turns, .. } => leave_idle(turns, connections).await,
            Pool::Postgres { turns, .. } => leave_idle(turns, connections).await,
        }
    }

    /// How many connections wait for an operation.
    pub(super) fn count_idle(&self) -> usize {
        match &self.0.pool {
            Pool::Sqlite { turns, .. } => turns.count_idle(),
            Pool::Postgres { turns, .. } => turns.count_idle(),
        }
    }

    /// As many as may be taken at the same time.
    pub(super) fn all_turns(&self) -> &Semaphore {
        match &self.0.pool {
            Pool::Sqlite { turns, .. } => turns.all(),
            Pool::Postgres { turns, .. } => turns.all(),
        }
    }
}

async fn leave_idle<DB: Database>(turns: &Turns<DB>, connections: usize) {
    let mut taken = Vec::new();
    for _ in 0..connections {
        taken.push(turns.take(BOUND).await.expect("a turn"));
    }
    taken.into_iter().for_each(Turn::end_well);
}

/// A storage that can be used, with `limit` for each operation.
pub(super) async fn prepared(url: &StorageUrl, limit: Duration) -> Storage {
    let storage = Storage::new(url, CONNECTIONS, limit).expect("a URL that leads somewhere");
    until(BOUND, "the storage to be prepared", async || {
        Ok(storage.prepare().await?)
    })
    .await
    .expect("prepared");
    storage.set_usable(true);
    storage
}

/// One server for all tests that run at the same time; it goes with the last of them.
async fn shared_server() -> Arc<Postgres> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Postgres::start().await.expect("a PostgreSQL server"));
    *shared = Arc::downgrade(&server);
    server
}
