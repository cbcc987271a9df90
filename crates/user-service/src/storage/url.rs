//! `storage.url`, checked once, when it is read.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

/// Where users are kept. Shown by `Debug` without what may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum StorageUrl {
    /// One file, by an absolute path.
    Sqlite(PathBuf),
    /// A database, by a URL that PostgreSQL's own tools read too.
    Postgres(String),
}

impl StorageUrl {
    /// `user-service.db` where this user's programs keep their data.
    pub(crate) fn of_this_user() -> Self {
        let absolute = |name| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let data = absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .unwrap_or_else(|| format!("/tmp/discovery-{}", nix::unistd::getuid()).into());
        Self::Sqlite(data.join("discovery").join("user-service.db"))
    }
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => f.write_str(url),
        }
    }
}

impl fmt::Debug for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.fmt(f),
            Self::Postgres(_) => f.write_str("postgres"),
        }
    }
}

impl From<StorageUrl> for String {
    fn from(url: StorageUrl) -> Self {
        url.to_string()
    }
}

impl TryFrom<String> for StorageUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for StorageUrl {
    type Err = String;

    /// The message does not repeat the URL: there may be a password in it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("sqlite://") {
            if !Path::new(path).is_absolute() || path.contains(['?', '#']) || path.ends_with('/') {
                return Err(
                    "it is no absolute path of a file, such as sqlite:///var/lib/users.db".into(),
                );
            }
            return Ok(Self::Sqlite(path.into()));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return match text.parse::<PgConnectOptions>() {
                Ok(_) => Ok(Self::Postgres(text.to_owned())),
                Err(_) => Err(
                    "it is no URL of a PostgreSQL database, such as postgres://user:password@host:5432/users".into(),
                ),
            };
        }
        Err("a storage's URL begins with sqlite:/// or postgres://".into())
    }
}

#[cfg(test)]
mod tests {
    use super::StorageUrl;

    #[test]
    fn a_storage_is_a_file_or_a_database() {
        for url in [
            "sqlite:///var/lib/users.db",
            "postgres://ann:s3cr3t@db/users",
            "postgresql:///users",
        ] {
            let parsed: StorageUrl = url.parse().expect(url);
            assert_eq!(parsed.to_string(), url);
        }
    }

    #[test]
    fn what_is_neither_is_refused_without_being_repeated() {
        for url in [
            "sqlite://users.db",
            "sqlite:///tmp/",
            "sqlite::memory:",
            "mysql://ann:s3cr3t@db/users",
            "postgres://ann:s3cr3t@db:port/users",
            "",
        ] {
            let error = url.parse::<StorageUrl>().expect_err(url);
            assert!(!error.contains("s3cr3t"), "{error}");
        }
        let url: StorageUrl = "postgres://ann:s3cr3t@db/users".parse().expect("a URL");
        assert!(!format!("{url:?}").contains("s3cr3t"));
    }
}
