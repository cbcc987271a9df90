//! Tables as this binary needs them, and whether they can be used.

use std::{
    fs::{OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use ring::rand::{SecureRandom, SystemRandom};
use sqlx::migrate::{MigrateError, Migrator};
use tokio::task::spawn_blocking;

use super::{
    Storage, StorageError, on,
    pool::{Pool, create_file},
};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// As long as HMAC-SHA256's own output; a longer one makes nothing safer (RFC 2104, section 3).
const KEY_LENGTH: usize = 32;

impl Storage {
    /// Brings the tables up to date, under a lock, and makes the signing key when there is none. It can be done again at any
    /// time, and by several processes at once.
    pub(crate) async fn prepare(&self) -> Result<(), StorageError> {
        self.limited(async {
            match &self.0.pool {
                Pool::Sqlite { aside, file, .. } => {
                    let _lock = lock(file).await?;
                    let mut connection = aside.take(self.0.limit).await?;
                    SQLITE.run(&mut *connection).await?;
                    connection.end_well();
                }
                // Under an advisory lock of the database, which goes with its session: an attempt that fails or is cut off
                // closes that.
                Pool::Postgres { aside, .. } => {
                    let mut connection = aside.take(self.0.limit).await?;
                    POSTGRES.run(&mut *connection).await?;
                    connection.end_well();
                }
            }
            Ok(())
        })
        .await?;
        self.make_key().await
    }

    /// Whether the users can be read.
    pub(crate) async fn check(&self) -> Result<(), StorageError> {
        let look = "SELECT id FROM users LIMIT 1";
        on!(aside self, |connection| Ok(sqlx::query(look)
            .execute(&mut *connection)
            .await
            .map(drop)?))
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
