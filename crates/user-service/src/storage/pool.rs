//! The connections: how many, how they are opened, and what holds for each.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use sqlx::{
    ConnectOptions, Postgres, Sqlite,
    pool::PoolOptions,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tracing::log::LevelFilter;

use super::{StorageUrl, turns::Turns};

/// A statement that takes longer is logged, without what was bound to it.
const SLOW: Duration = Duration::from_millis(500);

/// A bounded number of connections, each opened when it is first needed: those that operations take turns with, and one by
/// which the storage is prepared and looked at, whatever operations do.
#[derive(Debug)]
pub(super) enum Pool {
    Sqlite {
        turns: Turns<Sqlite>,
        aside: Turns<Sqlite>,
        file: PathBuf,
    },
    Postgres {
        turns: Turns<Postgres>,
        aside: Turns<Postgres>,
    },
}

impl Pool {
    pub(super) fn new(url: &StorageUrl, connections: u32, limit: Duration) -> anyhow::Result<Self> {
        Ok(match url {
            StorageUrl::Sqlite(file) => {
                let pool = |connections| {
                    bounded(connections, limit)
                        // What a file's connection would be tested for is found out by its next statement.
                        .test_before_acquire(false)
                        .connect_lazy_with(sqlite(file, limit))
                };
                Self::Sqlite {
                    turns: Turns::new(pool(connections)),
                    aside: Turns::new(pool(1)),
                    file: file.clone(),
                }
            }
            StorageUrl::Postgres(url) => {
                let options: PgConnectOptions = url
                    .parse()
                    .context("storage.url is no URL of PostgreSQL's")?;
                let options = postgres(options, limit);
                let pool =
                    |connections| bounded(connections, limit).connect_lazy_with(options.clone());
                Self::Postgres {
                    turns: Turns::new(pool(connections)),
                    aside: Turns::new(pool(1)),
                }
            }
        })
    }
}

fn bounded<DB: sqlx::Database>(connections: u32, limit: Duration) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(limit)
}

/// Readers and one writer at a time, side by side; what was committed outlives a power failure.
fn sqlite(file: &Path, limit: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(limit)
        .log_statements(LevelFilter::Trace)
        .log_slow_statements(LevelFilter::Warn, SLOW)
}

/// The server gives up a statement when its caller here has: what is cut off does not run on.
fn postgres(options: PgConnectOptions, limit: Duration) -> PgConnectOptions {
    let milliseconds = limit.as_millis().max(1).to_string();
    options
        .application_name("user-service")
        .options([
            ("statement_timeout", milliseconds.as_str()),
            // A statement that waits for a lock would not find out before that limit that nobody waits for it, and those whose callers
            // have given up would add to those of our connections. Since PostgreSQL 14.
            ("client_connection_check_interval", "250ms"),
            // It would tell at each start that the tables are there.
            ("client_min_messages", "warning"),
        ])
        .log_statements(LevelFilter::Trace)
        .log_slow_statements(LevelFilter::Warn, SLOW)
}

/// Makes the file with its directory, for its owner alone, when it is not there.
pub(super) fn create_file(file: &Path) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(file)
        .map(drop)
}
