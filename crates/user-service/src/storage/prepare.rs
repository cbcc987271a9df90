//! Tables as this binary needs them, and whether they can be used.

use std::{
    fs::{OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use ring::rand::{SecureRandom, SystemRandom};
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    Storage, StorageError, on,
    pool::{Pool, create_file},
};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Where sqlx keeps which of them have been made.
const MIGRATIONS: &str = "_sqlx_migrations";
/// How long the others' migrations and ours may take.
const MIGRATION: Duration = Duration::from_mins(10);

/// As long as HMAC-SHA256's own output; a longer one makes nothing safer (RFC 2104, section 3).
const KEY_LENGTH: usize = 32;

impl Storage {
    /// Brings the tables up to date, under a lock, and makes the signing key when there is none. It can be done again at any
    /// time, and by several processes at once.
    pub(crate) async fn prepare(&self) -> Result<(), StorageError> {
        match &self.0.pool {
            Pool::Sqlite { aside, file, .. } => {
                let _lock = lock(file).await?;
                let mut connection = aside.take(self.0.limit).await?;
                if !self.limited(is_done(&SQLITE, &mut *connection)).await? {
                    in_its_time(SQLITE.run(&mut *connection)).await?;
                }
                connection.end_well();
            }
            // Under an advisory lock of the database, for which nobody has to wait who has nothing to do.
            Pool::Postgres { aside, .. } => {
                let mut connection = aside.take(self.0.limit).await?;
                if self.limited(is_done(&POSTGRES, &mut *connection)).await? {
                    connection.end_well();
                } else {
                    // Until its session ends, which is here: the lock goes with that too.
                    let unlimited = sqlx::query("SET statement_timeout = 0");
                    self.limited(async { Ok(unlimited.execute(&mut *connection).await?) })
                        .await?;
                    in_its_time(POSTGRES.run(&mut *connection)).await?;
                }
            }
        }
        self.make_key().await
    }

    /// Whether the users can be read, and PostgreSQL lets us write: one that does not may be a copy, or have become one.
    pub(crate) async fn check(&self) -> Result<(), StorageError> {
        let look = match &self.0.pool {
            Pool::Sqlite { .. } => "SELECT (SELECT id FROM users LIMIT 1), FALSE",
            Pool::Postgres { .. } => {
                "SELECT (SELECT id FROM users LIMIT 1), current_setting('transaction_read_only') = 'on'"
            }
        };
        on!(aside self, |connection| {
            let (_, only_reads): (Option<String>, bool) = sqlx::query_as(look)
                .fetch_one(&mut *connection)
                .await?;
            if only_reads { Err(StorageError::ReadOnly) } else { Ok(()) }
        })
    }

    async fn make_key(&self) -> Result<(), StorageError> {
        let mut key = [0; KEY_LENGTH];
        SystemRandom::new()
            .fill(&mut key)
            .map_err(|_| StorageError::System(io::Error::other("no random bytes")))?;
        let insert =
            "INSERT INTO signing_key (number, secret) VALUES (1, $1) ON CONFLICT DO NOTHING";
        on!(aside self, |connection| Ok(sqlx::query(insert)
            .bind(&key[..])
            .execute(&mut *connection)
            .await
            .map(drop)?))
    }

    /// What tokens are signed with, and what the key of page tokens is derived from.
    pub(crate) async fn signing_key(&self) -> Result<Vec<u8>, StorageError> {
        let select = "SELECT secret FROM signing_key WHERE number = 1";
        on!(operation self, |connection| Ok(sqlx::query_scalar(select)
            .fetch_one(&mut *connection)
            .await?))
    }
}

/// Whether each migration has been made, as it is here. What a newer binary has made besides is in nobody's way: it only adds.
async fn is_done<C: Migrate>(
    migrator: &Migrator,
    connection: &mut C,
) -> Result<bool, StorageError> {
    // Where there is no such table yet there is all to do, and whatever else is wrong is told of what is done then.
    let Ok(made) = connection.list_applied_migrations(MIGRATIONS).await else {
        return Ok(false);
    };
    Ok(migrator.iter().all(|ours| {
        made.iter()
            .any(|made| (made.version, &made.checksum) == (ours.version, &ours.checksum))
    }))
}

/// Waits for what makes the others. Somebody else may be at it, and what is in the tables may be much.
async fn in_its_time(
    migrating: impl Future<Output = Result<(), MigrateError>>,
) -> Result<(), StorageError> {
    tracing::info!("the tables of the storage are brought up to date");
    match timeout(MIGRATION, migrating).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(StorageError::TooSlow(MIGRATION)),
    }
}

/// SQLite has no lock that outlives a transaction, and sqlx takes none. The kernel drops this one with its file.
async fn lock(file: &Path) -> Result<std::fs::File, StorageError> {
    let file = file.to_owned();
    let locked = spawn_blocking(move || {
        create_file(&file)?;
        let mut path = file.into_os_string();
        path.push(".lock");
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    });
    match locked.await {
        Ok(Ok(Some(lock))) => Ok(lock),
        Ok(Ok(None)) => Err(StorageError::Preparing),
        Ok(Err(error)) => Err(StorageError::System(error)),
        Err(error) => Err(StorageError::System(error.into())),
    }
}

impl From<MigrateError> for StorageError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            error => Self::Migration(error),
        }
    }
}
