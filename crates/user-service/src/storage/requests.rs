//! What requests to create a user were answered, kept for as long as the same request may come again.

use super::{Storage, StorageError, UserRow, on};

/// What one statement forgets: so few that it is done within any limit, and keeps nobody waiting who writes.
pub(crate) const FORGOTTEN_AT_ONCE: u32 = 1_000;

impl Storage {
    /// What the first request of that id was answered, when it was for the same user.
    pub(super) async fn created_by(
        &self,
        request_id: &str,
        wanted: &UserRow,
    ) -> Result<UserRow, StorageError> {
        let select = "SELECT id, display_name, email, etag, create_time, update_time \
            FROM create_requests WHERE request_id = $1";
        let created: UserRow = on!(operation self, |connection| Ok(sqlx::query_as(select)
            .bind(request_id)
            .fetch_one(&mut *connection)
            .await?))?;
        let is_same = created.id == wanted.id
            && created.display_name == wanted.display_name
            && created.email == wanted.email;
        if is_same {
            Ok(created)
        } else {
            Err(StorageError::RequestReused)
        }
    }

    /// Forgets requests from before `time`, in microseconds since 1970, a [batch](FORGOTTEN_AT_ONCE) of them at most; gives how
    /// many there were.
    pub(crate) async fn forget_requests(&self, time: i64) -> Result<u64, StorageError> {
        let delete = "DELETE FROM create_requests WHERE request_id IN \
            (SELECT request_id FROM create_requests WHERE create_time < $1 LIMIT $2)";
        on!(aside self, |connection| Ok(sqlx::query(delete)
            .bind(time)
            .bind(i64::from(FORGOTTEN_AT_ONCE))
            .execute(&mut *connection)
            .await?
            .rows_affected()))
    }
}
