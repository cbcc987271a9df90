//! From a registry's URL to a [`Registry`].

use percent_encoding::percent_decode_str;

use crate::{
    Registry,
    backend::{
        etcd::{EtcdOptions, EtcdStore, InvalidEtcdUrl},
        file::{self, FileError, FileStore},
        fixed::{FixedError, FixedStore},
        memory::MemoryStore,
    },
};

/// Why a URL does not lead to a registry. The text names the URL and says what would.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No backend has that scheme.
    #[error(
        "{url:?} names no registry: a registry URL is etcd://HOST:PORT,HOST:PORT/NAMESPACE, file:///DIRECTORY, fixed:///LIST.json or memory:"
    )]
    UnknownScheme {
        /// The URL as given, less a user and password.
        url: String,
    },
    /// What follows `file://` or `fixed://` is no absolute path.
    #[error("{url:?} has no absolute path; write {scheme}:///PATH with three slashes")]
    NoPath {
        /// The URL as given, less a user and password.
        url: String,
        /// Its scheme.
        scheme: &'static str,
    },
    /// What follows the directory is nothing that a file registry has.
    #[error(
        "{url:?} has an option that is none: file:///DIRECTORY?watch=poll is all there is; a ? in a directory's name is written %3F"
    )]
    UnknownOption {
        /// The URL as given, less a user and password.
        url: String,
    },
    /// The members of the cluster, or the namespace, cannot be read. The URL is not repeated: it may have a password.
    #[error(transparent)]
    Etcd(#[from] InvalidEtcdUrl),
    /// The directory cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The list cannot be used.
    #[error(transparent)]
    Fixed(#[from] FixedError),
}

/// The registry at `url`: `etcd://h1:2379,h2:2379/namespace`, `etcds://user:password@h1:2379` for one behind TLS that asks who
/// we are, `file:///run/discovery`, `fixed:///list.json` or `memory:` (a new, empty one). `file:///mnt/shared?watch=poll` is a
/// directory whose file system does not tell of changes.
///
/// Makes the directory of a `file:` registry, reads the list of a `fixed:` one, and does no more: a registry that cannot be reached is reported
/// by what is done with it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// assert_eq!(registry::connect("memory:").unwrap().url(), "memory:");
/// assert!(registry::connect("zookeeper://h:2181").unwrap_err().to_string().contains("etcd://"));
/// # }
/// ```
///
/// # Panics
/// Outside a tokio runtime.
pub fn connect(url: &str) -> Result<Registry, ConnectError> {
    connect_with(url, Ok)
}

/// The same, with what the URL of an etcd has no place for; `etcd` is not asked about another registry.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use registry::dialect::Dialects;
/// let dialects: Dialects = "etcd,kratos".parse()?;
/// let registry = registry::connect_with("etcd://10.0.0.1:2379", |etcd| Ok(etcd.with_dialects(dialects)))?;
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// Outside a tokio runtime.
pub fn connect_with(
    url: &str,
    etcd: impl FnOnce(EtcdOptions) -> Result<EtcdOptions, InvalidEtcdUrl>,
) -> Result<Registry, ConnectError> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(MemoryStore::new().into()),
        Some(("etcd" | "etcds", _)) => Ok(EtcdStore::new(etcd(url.parse()?)?).into()),
        Some(("file", rest)) => Ok(directory(url, rest)?.into()),
        Some(("fixed", rest)) => Ok(FixedStore::from_file(path(url, "fixed", rest)?)?.into()),
        _ => Err(ConnectError::UnknownScheme {
            url: without_user(url),
        }),
    }
}

fn directory(url: &str, rest: &str) -> Result<FileStore, ConnectError> {
    let polling = rest.strip_suffix(file::POLLING);
    let directory = polling.unwrap_or(rest);
    if directory.contains('?') {
        return Err(ConnectError::UnknownOption {
            url: without_user(url),
        });
    }
    let directory = path(url, "file", directory)?;
    Ok(match polling {
        Some(_) => FileStore::open_polling(directory),
        None => FileStore::open(directory),
    }?)
}

fn path(url: &str, scheme: &'static str, rest: &str) -> Result<String, ConnectError> {
    let path = rest.strip_prefix("//").filter(|path| path.starts_with('/'));
    let decoded = path.and_then(|path| percent_decode_str(path).decode_utf8().ok());
    decoded.map(Into::into).ok_or_else(|| ConnectError::NoPath {
        url: without_user(url),
        scheme,
    })
}

/// The URL as a message may repeat it: less what is before an `@`, which may be a password.
fn without_user(url: &str) -> String {
    let Some((before, after)) = url.rsplit_once('@') else {
        return url.into();
    };
    let scheme = ["//", ":"]
        .iter()
        .find_map(|end| Some(before.find(end)? + end.len()));
    format!("{}***@{after}", &before[..scheme.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::connect;

    #[tokio::test]
    async fn a_directory_is_named_by_an_absolute_path() {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}/a%20b", directory.path().display());
        connect(&url).expect("a registry");
        assert!(directory.path().join("a b").is_dir());
    }

    #[tokio::test]
    async fn a_directory_may_be_one_to_poll() {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}/a%3Fb?watch=poll", directory.path().display());
        assert_eq!(connect(&url).expect("a registry").url(), url);
        assert!(directory.path().join("a?b").is_dir());
    }

    #[tokio::test]
    async fn a_refusal_repeats_no_password() {
        for url in [
            "zookeeper://root:secret@h:2181/x",
            "zookeeper://root:se@cret//@h:2181/x",
            "file://root:secret@h:2181/x",
            "fixed:root:secret@h:2181/x",
            "etcd://root:secret@h:2181/_x",
            "etcds://root:se@cret//@h:2181/x",
            "etcd:root:secret@h:2181/x",
            "root:secret@h:2181/x",
        ] {
            let refused = connect(url).expect_err(url);
            let message = format!("{refused} {refused:?}");
            assert!(!message.contains("cret"), "{message}");
            let host = message.contains("h:2181");
            assert_eq!(host, message.contains("***@h:2181/x"), "{message}");
        }
    }

    #[tokio::test]
    async fn a_registry_shows_its_user_and_no_password() {
        let registry = connect("etcds://root:secret@h:2181/x").expect("a registry");
        assert_eq!(registry.url(), "etcds://root@h:2181/x");
        assert!(!format!("{registry:?}").contains("cret"));
    }

    #[tokio::test]
    async fn a_refusal_names_the_url_and_what_would_do() {
        for (url, says) in [
            ("", "etcd://"),
            ("memory", "memory:"),
            ("memory:x", "memory:"),
            ("http://h:1", "etcd://"),
            ("file://relative", "file:///PATH"),
            ("file:///run/a?b", "%3F"),
            ("file:///run/a?watch=inotify", "?watch=poll"),
            ("file:///run/a?watch=poll?watch=poll", "?watch=poll"),
            ("fixed:list.json", "fixed:///PATH"),
        ] {
            let message = connect(url).expect_err(url).to_string();
            assert!(
                message.contains(&format!("{url:?}")) && message.contains(says),
                "{message}"
            );
        }
    }
}
