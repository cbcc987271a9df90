//! What can become of an operation, and which of it means that the storage is down.

use std::time::Duration;

use sqlx::error::DatabaseError;

/// Why an operation has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// There is a user of that id.
    #[error("there is a user of that name")]
    AlreadyExists,
    /// There is no user of that id.
    #[error("there is no user of that name")]
    NotFound,
    /// The user has another etag.
    #[error("the user has changed")]
    Stale,
    /// A request of that id has created another user.
    #[error("a request of that id has created another user")]
    RequestReused,
    /// It was down when it was last looked at.
    #[error("the storage is down")]
    Down,
    /// Others have all connections, and have not let go of one in time.
    #[error("all connections to the storage are in use")]
    Busy,
    /// No answer within the limit.
    #[error("the storage did not answer within {0:?}")]
    TooSlow(Duration),
    /// Another process is changing the tables of the same file.
    #[error("another process is preparing the storage")]
    Preparing,
    /// It is a copy, or somebody has it changed by nobody.
    #[error("the storage can only be read")]
    ReadOnly,
    /// It cannot be asked.
    #[error("the storage cannot be used")]
    Unusable(#[source] sqlx::Error),
    /// The tables are not what this binary needs.
    #[error("the tables cannot be prepared")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// It did not understand, or was not understood.
    #[error("the storage has failed")]
    Failed(#[source] sqlx::Error),
    /// The system has no random bytes, or no file.
    #[error("the system has failed the storage")]
    System(#[source] std::io::Error),
}

impl StorageError {
    /// Whether another look at the storage is due. That it could not do as one statement said means nothing for the others.
    pub(super) fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::TooSlow(_) | Self::ReadOnly | Self::Unusable(_) | Self::Migration(_)
        )
    }

    /// Whether the connection may be in a state that nobody knows.
    pub(super) fn leaves_doubt(&self) -> bool {
        self.is_trouble() || matches!(self, Self::Failed(_))
    }

    /// Whether the same operation may succeed later.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Down | Self::TooSlow(_) | Self::ReadOnly | Self::Unusable(_) | Self::Preparing
        )
    }
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let unusable = match &error {
            // Protocol: a connection that ends in the middle of a message, among others.
            E::Io(_)
            | E::Tls(_)
            | E::PoolTimedOut
            | E::PoolClosed
            | E::WorkerCrashed
            | E::Protocol(_)
            | E::BeginFailed => true,
            E::Database(told) => says_unusable(told.as_ref()),
            _ => false,
        };
        if unusable {
            Self::Unusable(error)
        } else {
            Self::Failed(error)
        }
    }
}

/// Whether what the database tells is about itself, and not about the statement.
fn says_unusable(error: &dyn DatabaseError) -> bool {
    let Some(code) = error.code() else {
        return false;
    };
    if error
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .is_some()
    {
        return postgres_is_unusable(&code);
    }
    code.parse().is_ok_and(sqlite_is_unusable)
}

/// By PostgreSQL's "Appendix A. Error Codes": 08 the connection, 25006 a server that only reads, 28 who we are, 3D the
/// database is not there, 40 start again, 42P01 the tables are gone, 53 no resources left, 57 an operator or the time limit, 58 the system.
fn postgres_is_unusable(code: &str) -> bool {
    let class = code.get(..2).unwrap_or_default();
    matches!(class, "08" | "28" | "3D" | "40" | "53" | "57" | "58")
        || matches!(code, "25006" | "42P01")
}

/// By SQLite's "Result and Error Codes", whose lowest byte is the primary one: BUSY 5, LOCKED 6, READONLY 8, IOERR 10,
/// CORRUPT 11, FULL 13, CANTOPEN 14, PROTOCOL 15, NOTADB 26.
fn sqlite_is_unusable(code: u32) -> bool {
    matches!(code & 0xff, 5 | 6 | 8 | 10 | 11 | 13 | 14 | 15 | 26)
}

#[cfg(test)]
mod tests {
    use super::{postgres_is_unusable, sqlite_is_unusable};

    #[test]
    fn a_database_that_is_down_is_told_from_a_statement_that_is_wrong() {
        for code in ["08006", "57P01", "53300", "25006", "28P01", "57014"] {
            assert!(postgres_is_unusable(code), "{code}");
        }
        for code in ["23505", "42703", "22001", ""] {
            assert!(!postgres_is_unusable(code), "{code}");
        }
        // SQLITE_BUSY_SNAPSHOT and SQLITE_IOERR_WRITE are extended codes; SQLITE_CONSTRAINT_UNIQUE is too.
        for (code, unusable) in [
            (5, true),
            (517, true),
            (778, true),
            (2067, false),
            (1, false),
        ] {
            assert_eq!(sqlite_is_unusable(code), unusable, "{code}");
        }
    }
}
