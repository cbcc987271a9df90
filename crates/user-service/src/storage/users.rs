//! What is done with users: each is one statement, or one transaction that begins with a write.

use sqlx::{Connection, FromRow};

use super::{Storage, StorageError, etag::may_match, on};

/// Above every character of an id, so that what begins with a prefix is below the prefix with this behind it.
const ABOVE_ALL: char = '~';

/// A user as it is kept. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct UserRow {
    pub(crate) id: String,
    pub(crate) display_name: String,
    pub(crate) email: String,
    pub(crate) etag: String,
    pub(crate) create_time: i64,
    pub(crate) update_time: i64,
}

/// Whom to create.
#[derive(Clone)]
pub(crate) struct NewUser {
    pub(crate) user: UserRow,
    /// How the password is kept; none cannot be authenticated.
    pub(crate) hash: Option<String>,
    /// By which the same request is known when it comes again.
    pub(crate) request_id: Option<String>,
}

/// What to change: `None` stays as it is.
#[derive(Clone, Default)]
pub(crate) struct Change {
    pub(crate) display_name: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) hash: HashChange,
    /// The etag from now on.
    pub(crate) etag: String,
    /// When it is changed.
    pub(crate) now: i64,
}

/// What becomes of how the password is kept.
#[derive(Clone, Default)]
pub(crate) enum HashChange {
    /// It stays.
    #[default]
    Keep,
    /// It is this from now on.
    Set(String),
    /// There is none any more.
    Remove,
}

/// What has come of a wish to create a user.
enum Created<'a> {
    Now,
    /// A request of that id has come before.
    Before(&'a str),
}

impl Storage {
    /// Creates a user, once for each request id; gives the user as it was created.
    pub(crate) async fn create(&self, new: &NewUser) -> Result<UserRow, StorageError> {
        let remember = "INSERT INTO create_requests \
            (request_id, id, display_name, email, etag, create_time, update_time) \
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
        let insert = "INSERT INTO users (id, display_name, email, etag, create_time, update_time) \
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
        let user = &new.user;
        let created = on!(operation self, |connection| {
            let mut transaction = connection.begin().await?;
            if let Some(request_id) = &new.request_id {
                let remembered = sqlx::query(remember)
                    .bind(request_id)
                    .bind(&user.id)
                    .bind(&user.display_name)
                    .bind(&user.email)
                    .bind(&user.etag)
                    .bind(user.create_time)
                    .bind(user.update_time)
                    .execute(&mut *transaction)
                    .await?;
                if remembered.rows_affected() == 0 {
                    transaction.rollback().await?;
                    return Ok(Created::Before(request_id));
                }
            }
            let inserted = sqlx::query(insert)
                .bind(&user.id)
                .bind(&user.display_name)
                .bind(&user.email)
                .bind(&user.etag)
                .bind(user.create_time)
                .bind(user.update_time)
                .execute(&mut *transaction)
                .await?;
            if inserted.rows_affected() == 0 {
                transaction.rollback().await?;
                return Err(StorageError::AlreadyExists);
            }
            if let Some(hash) = &new.hash {
                sqlx::query(SET_PASSWORD)
                    .bind(&user.id)
                    .bind(hash)
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
            Ok(Created::Now)
        })?;
        match created {
            Created::Now => Ok(user.clone()),
            Created::Before(request_id) => self.created_by(request_id, user).await,
        }
    }

    /// One user.
    pub(crate) async fn get(&self, id: &str) -> Result<UserRow, StorageError> {
        let select = "SELECT id, display_name, email, etag, create_time, update_time \
            FROM users WHERE id = $1";
        on!(operation self, |connection| sqlx::query_as(select)
            .bind(id)
            .fetch_optional(&mut *connection)
            .await?
            .ok_or(StorageError::NotFound))
    }

    /// At most `limit` users whose ids are above `after` and begin with `prefix`, in the order of their ids.
    pub(crate) async fn list(
        &self,
        after: &str,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<UserRow>, StorageError> {
        let select = "SELECT id, display_name, email, etag, create_time, update_time \
            FROM users WHERE id > $1 AND id >= $2 AND id < $3 ORDER BY id LIMIT $4";
        on!(operation self, |connection| Ok(sqlx::query_as(select)
            .bind(after)
            .bind(prefix)
            .bind(format!("{prefix}{ABOVE_ALL}"))
            .bind(i64::from(limit))
            .fetch_all(&mut *connection)
            .await?))
    }

    /// Changes the user who has that id and, unless it is empty, that etag.
    pub(crate) async fn update(
        &self,
        id: &str,
        etag: &str,
        change: &Change,
    ) -> Result<UserRow, StorageError> {
        let update = "UPDATE users SET display_name = COALESCE($3, display_name), \
            email = COALESCE($4, email), etag = $5, update_time = $6 \
            WHERE id = $1 AND ($2 = '' OR etag = $2) \
            RETURNING id, display_name, email, etag, create_time, update_time";
        if !may_match(etag) {
            return Err(self.why_not(id).await?);
        }
        let updated: Option<UserRow> = on!(operation self, |connection| {
            let mut transaction = connection.begin().await?;
            let updated = sqlx::query_as(update)
                .bind(id)
                .bind(etag)
                .bind(&change.display_name)
                .bind(&change.email)
                .bind(&change.etag)
                .bind(change.now)
                .fetch_optional(&mut *transaction)
                .await?;
            if updated.is_none() {
                transaction.rollback().await?;
                return Ok(None);
            }
            match &change.hash {
                HashChange::Keep => {}
                HashChange::Set(hash) => {
                    sqlx::query(SET_PASSWORD)
                        .bind(id)
                        .bind(hash)
                        .execute(&mut *transaction)
                        .await?;
                }
                HashChange::Remove => {
                    sqlx::query("DELETE FROM passwords WHERE user_id = $1")
                        .bind(id)
                        .execute(&mut *transaction)
                        .await?;
                }
            }
            transaction.commit().await?;
            Ok(updated)
        })?;
        match updated {
            Some(updated) => Ok(updated),
            None => Err(self.why_not(id).await?),
        }
    }

    /// Deletes the user who has that id and, unless it is empty, that etag; the password goes too.
    pub(crate) async fn delete(&self, id: &str, etag: &str) -> Result<(), StorageError> {
        let delete = "DELETE FROM users WHERE id = $1 AND ($2 = '' OR etag = $2)";
        if !may_match(etag) {
            return Err(self.why_not(id).await?);
        }
        let deleted = on!(operation self, |connection| Ok(sqlx::query(delete)
            .bind(id)
            .bind(etag)
            .execute(&mut *connection)
            .await?
            .rows_affected()))?;
        if deleted == 0 {
            return Err(self.why_not(id).await?);
        }
        Ok(())
    }

    /// How a user's password is kept; `None` when there is no such user, or one without a password.
    pub(crate) async fn hash(&self, id: &str) -> Result<Option<String>, StorageError> {
        let select = "SELECT hash FROM passwords WHERE user_id = $1";
        on!(operation self, |connection| Ok(sqlx::query_scalar(select)
            .bind(id)
            .fetch_optional(&mut *connection)
            .await?))
    }

    /// Has the same password kept in another way, unless it is another by now: the user has not changed, and keeps the etag.
    pub(crate) async fn replace_hash(
        &self,
        id: &str,
        kept: &str,
        hash: &str,
    ) -> Result<(), StorageError> {
        let update = "UPDATE passwords SET hash = $3 WHERE user_id = $1 AND hash = $2";
        on!(operation self, |connection| Ok(sqlx::query(update)
            .bind(id)
            .bind(kept)
            .bind(hash)
            .execute(&mut *connection)
            .await
            .map(drop)?))
    }

    /// Why nobody had that id and the etag that was wanted.
    async fn why_not(&self, id: &str) -> Result<StorageError, StorageError> {
        let select = "SELECT id FROM users WHERE id = $1";
        let there: Option<String> = on!(operation self, |connection| Ok(sqlx::query_scalar(select)
            .bind(id)
            .fetch_optional(&mut *connection)
            .await?))?;
        Ok(match there {
            Some(_) => StorageError::Stale,
            None => StorageError::NotFound,
        })
    }
}

const SET_PASSWORD: &str = "INSERT INTO passwords (user_id, hash) VALUES ($1, $2) \
    ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash";
