//! `etcd://host:port,host:port/namespace`.

use std::{fmt, str::FromStr};

use super::{EtcdOptions, EtcdTls};
use crate::{Address, InvalidInstance};

const FORM: &str = "an etcd registry is etcd://host:port,host:port/namespace, or etcds:// for TLS, where the namespace may be left out";

/// Why a URL does not lead to an etcd cluster. The text names the part and says what would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEtcdUrl {
    /// There is a user in the URL. It is not repeated: it may come with a password.
    #[error(
        "a user in the URL (user:password@) is not built yet; only an etcd without authentication is"
    )]
    Authentication,
    /// There is a `?key=value`.
    #[error("an etcd URL has no option {0:?}; {FORM}")]
    Option(String),
    /// It does not begin with `etcd://` or `etcds://`.
    #[error("the URL does not begin with etcd:// or etcds://; {FORM}")]
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
    /// The name can be no member's.
    #[error("{0:?} is no name that a member's certificate could be for")]
    ServerName(String),
}

impl FromStr for EtcdOptions {
    type Err = InvalidEtcdUrl;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let (tls, rest) = match url.split_once("://") {
            Some(("etcd", rest)) => (None, rest),
            Some(("etcds", rest)) => (Some(EtcdTls::new()), rest),
            _ => return Err(InvalidEtcdUrl::Scheme),
        };
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
        let mut options = Self::new(endpoints.map_err(InvalidEtcdUrl::Member)?)?;
        options.tls = tls;
        match namespace {
            "" => Ok(options),
            namespace => options.with_namespace(namespace),
        }
    }
}

impl fmt::Display for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls.is_some() {
            "etcds://"
        } else {
            "etcd://"
        })?;
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
            ("etcds://a:1,b:2/shop", 2),
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
            ("etcd://root:secret@a:1", "authentication"),
            ("etcd://a:1?dial_timeout=3s", "dial_timeout"),
            ("etcd://a:1/ns?x", "\"x\""),
            ("etcd://", "names no etcd member"),
            ("etcd:///ns", "names no etcd member"),
            ("etcd:a:1", "etcd://"),
            ("etcds:a:1", "etcds://"),
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
