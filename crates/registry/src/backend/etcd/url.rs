//! `etcd://host:port,host:port/namespace`.

use std::{fmt, str::FromStr, time::Duration};

use crate::{Address, InvalidInstance, ServiceName};

/// Seldom enough that a thousand idle watchers cost etcd some thirty reads a second.
const QUIET: Duration = Duration::from_secs(30);
const FORM: &str =
    "an etcd registry is etcd://host:port,host:port/namespace, where the namespace may be left out";

/// Which etcd cluster, and which part of its keys.
///
/// ```
/// use registry::backend::etcd::EtcdOptions;
/// let options: EtcdOptions = "etcd://10.0.0.1:2379,10.0.0.2:2379/shop".parse()?;
/// assert_eq!(options.to_string(), "etcd://10.0.0.1:2379,10.0.0.2:2379/shop");
/// assert!("etcds://10.0.0.1:2379".parse::<EtcdOptions>().is_err());
/// # Ok::<(), registry::backend::etcd::InvalidEtcdUrl>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    pub(super) endpoints: Vec<Address>,
    /// A namespace has the form of a service name.
    pub(super) namespace: Option<ServiceName>,
    pub(super) quiet: Duration,
}

/// Why a URL does not lead to an etcd cluster. The text names the part and says what would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEtcdUrl {
    /// The scheme is `etcds`.
    #[error("etcds:// (TLS) is not built yet; only etcd:// without TLS is")]
    Tls,
    /// There is a user in the URL. It is not repeated: it may come with a password.
    #[error(
        "a user in the URL (user:password@) is not built yet; only an etcd without authentication is"
    )]
    Authentication,
    /// There is a `?key=value`.
    #[error("an etcd URL has no option {0:?}; {FORM}")]
    Option(String),
    /// It does not begin with `etcd://`.
    #[error("the URL does not begin with etcd://; {FORM}")]
    Scheme,
    /// A host and its port cannot be one.
    #[error("the URL names no etcd member: {0}")]
    Member(InvalidInstance),
    /// A member is said to be on a Unix socket.
    #[error("the etcd member {0} is a Unix socket; members are reached by host:port")]
    Socket(Address),
    /// The namespace cannot be one.
    #[error("the URL's path is no namespace: {0}")]
    Namespace(InvalidInstance),
    /// There is no host.
    #[error("the URL names no etcd member; {FORM}")]
    NoMember,
}

impl EtcdOptions {
    /// The cluster that has these members; one is enough to begin with, more to go on when it fails.
    pub fn new(endpoints: impl IntoIterator<Item = Address>) -> Result<Self, InvalidEtcdUrl> {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        if endpoints.is_empty() {
            return Err(InvalidEtcdUrl::NoMember);
        }
        if let Some(socket) = endpoints.iter().find(|member| member.port().is_none()) {
            return Err(InvalidEtcdUrl::Socket(socket.clone()));
        }
        Ok(Self {
            endpoints,
            namespace: None,
            quiet: QUIET,
        })
    }

    /// The same with another time, by default 30 s, after which a watch that has heard nothing is checked by a
    /// linearizable read. It is no part of the URL.
    pub fn with_quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// The same with all keys below `namespace/`, which has the form of a service name. Without one, keys are as etcd's
    /// own Go packages have them.
    pub fn with_namespace(mut self, namespace: &str) -> Result<Self, InvalidEtcdUrl> {
        let namespace = ServiceName::new(namespace).map_err(InvalidEtcdUrl::Namespace)?;
        self.namespace = Some(namespace);
        Ok(self)
    }
}

impl FromStr for EtcdOptions {
    type Err = InvalidEtcdUrl;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        if url.starts_with("etcds:") {
            return Err(InvalidEtcdUrl::Tls);
        }
        let rest = url.strip_prefix("etcd://").ok_or(InvalidEtcdUrl::Scheme)?;
        if rest.contains('@') {
            return Err(InvalidEtcdUrl::Authentication);
        }
        if let Some((_, query)) = rest.split_once(['?', '#']) {
            let key = query.split(['=', '&']).next().unwrap_or_default();
            return Err(InvalidEtcdUrl::Option(key.chars().take(80).collect()));
        }
        let (hosts, namespace) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.is_empty() {
            return Err(InvalidEtcdUrl::NoMember);
        }
        let endpoints: Result<Vec<_>, _> = hosts.split(',').map(Address::new).collect();
        let options = Self::new(endpoints.map_err(InvalidEtcdUrl::Member)?)?;
        match namespace {
            "" => Ok(options),
            namespace => options.with_namespace(namespace),
        }
    }
}

impl fmt::Display for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("etcd://")?;
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{endpoint}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, "/{namespace}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EtcdOptions;

    #[test]
    fn urls_are_read_and_written() {
        for (url, members) in [
            ("etcd://a:1", 1),
            ("etcd://a:1,[::1]:2,10.0.0.1:3", 3),
            ("etcd://a:1/shop/eu", 1),
        ] {
            let options: EtcdOptions = url.parse().expect(url);
            assert_eq!(options.endpoints.len(), members);
            assert_eq!(options.to_string(), url);
        }
        let slash: EtcdOptions = "etcd://a:1/".parse().expect("no namespace");
        assert_eq!(slash.namespace, None);
    }

    #[test]
    fn what_is_not_built_or_not_understood_is_refused_by_name() {
        for (url, part) in [
            ("etcds://a:1", "TLS"),
            ("etcd://root:secret@a:1", "authentication"),
            ("etcd://a:1?dial_timeout=3s", "dial_timeout"),
            ("etcd://a:1/ns?x", "\"x\""),
            ("etcd://", "names no etcd member"),
            ("etcd:///ns", "names no etcd member"),
            ("etcd:a:1", "etcd://"),
            ("etcd://a", "\"a\" has no port"),
            ("etcd://a:1,", "is empty"),
            ("etcd://a:1/_x", "\"_x\""),
            ("etcd://a:1/x//y", "empty segment"),
        ] {
            let message = url.parse::<EtcdOptions>().expect_err(url).to_string();
            assert!(message.contains(part), "{url}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
