//! `etcd://user:password@host:port,host:port/namespace`.

use std::{fmt, str::FromStr};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{EtcdOptions, EtcdTls, EtcdUser};
use crate::{Address, InvalidInstance};

const FORM: &str = "an etcd registry is etcd://host:port,host:port/namespace, or etcds:// for TLS, where the namespace may be left out";

/// Why a URL does not lead to an etcd cluster. The text names the part and says what would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEtcdUrl {
    /// What is before the `@` cannot be a user and a password. It is not repeated.
    #[error(
        "what is before the @ in the URL is no user:password; any of their characters that is no letter or digit may have to be written as % and two hexadecimal digits, as %40 for @"
    )]
    User,
    /// There is a user in the URL, and no password.
    #[error(
        "the user {user:?} in the URL has no password; write {user}:PASSWORD@, or name the user and the file of the password beside the URL"
    )]
    NoPassword {
        /// The user.
        user: String,
    },
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
    /// A watch is to be shared, and there is no namespace to share it in.
    #[error(
        "a watch can be shared within a namespace only: without one it would be a watch of all of etcd; add /NAMESPACE to the URL"
    )]
    NothingToShare,
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
        // Nothing after the members has an `@`: whatever is before the last one may be secret.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(parse_user(user)?), rest),
            None => (None, rest),
        };
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
        options.user = user;
        match namespace {
            "" => Ok(options),
            namespace => options.with_namespace(namespace),
        }
    }
}

fn parse_user(text: &str) -> Result<EtcdUser, InvalidEtcdUrl> {
    if text.contains(['/', '?', '#', '@']) {
        return Err(InvalidEtcdUrl::User);
    }
    let decoded = |text| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map_err(|_| InvalidEtcdUrl::User)
    };
    let (name, password) = text.split_once(':').unwrap_or((text, ""));
    let (name, password) = (decoded(name)?, decoded(password)?);
    match (&*name, &*password) {
        ("", _) => Err(InvalidEtcdUrl::User),
        (name, "") => Err(InvalidEtcdUrl::NoPassword { user: name.into() }),
        (name, password) => Ok(EtcdUser::new(name, password)),
    }
}

/// Without the password.
impl fmt::Display for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls.is_some() {
            "etcds://"
        } else {
            "etcd://"
        })?;
        if let Some(EtcdUser { name, .. }) = &self.user {
            write!(f, "{}@", utf8_percent_encode(name, NON_ALPHANUMERIC))?;
        }
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
    use super::{EtcdOptions, EtcdUser};

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
            ("etcd://ann@a:1", "\"ann\""),
            ("etcd://ann:@a:1", "\"ann\""),
            ("etcd://:secret@a:1", "%40"),
            ("etcd://ann:sec@ret@a:1", "%40"),
            ("etcd://ann:sec/ret@a:1", "%40"),
            ("etcd://ann:secret@/@a:1", "%40"),
            ("etcd://ann:secret%ff@a:1", "%40"),
            ("etcd://ann:secret@a", "\"a\" has no port"),
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
            assert!(!message.contains("sec"), "{message}");
        }
    }

    #[test]
    fn a_user_is_read_from_the_url_and_its_password_never_written() {
        let url = "etcd://a%40nn:s%3Ae%2Fc@a:1,b:2/shop";
        let options: EtcdOptions = url.parse().expect(url);
        let user = EtcdUser::new("a@nn", "s:e/c");
        assert_eq!(options.user, Some(user));
        assert_eq!(options.to_string(), "etcd://a%40nn@a:1,b:2/shop");
        let shown = format!("{options:?}");
        assert!(
            shown.contains("a@nn") && !shown.contains("s:e/c"),
            "{shown}"
        );
    }
}
