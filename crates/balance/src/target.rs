//! What a caller names.

mod selector;

use std::{fmt, str::FromStr};

use registry::{Address, InvalidInstance, ServiceName};

pub use selector::Selector;

/// What a caller names: a service, or a list of addresses.
///
/// ```
/// use balance::Target;
/// let target: Target = "etcd:///shop/basket".parse()?;
/// assert_eq!(target.to_string(), "etcd:///shop/basket");
/// assert!("http://10.0.0.1:80".parse::<Target>().is_err());
/// # Ok::<(), balance::InvalidTarget>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// `greeter`, `etcd:///greeter` or `greeter?version=v2&label.tier=gold`: a service in a registry.
    Service {
        /// The registry's scheme, where the target names one.
        scheme: Option<String>,
        /// The service.
        service: ServiceName,
        /// Which of its instances.
        selector: Selector,
    },
    /// `static:///10.0.0.1:1,10.0.0.2:1`: these addresses and no others. `unix:///run/greeter.sock` is one on this machine.
    #[non_exhaustive]
    Static {
        /// The addresses; at least one.
        addresses: Vec<Address>,
        /// Which service answers there, as in `static:///10.0.0.1:1?service=greeter`, for who verifies that it does.
        service: Option<ServiceName>,
    },
}

/// Why a text names nothing that can be called. The message names the text and says what would do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTarget {
    /// The scheme is none that is known.
    #[error(
        "target {target:?} has the scheme {scheme:?}; a target is SERVICE, etcd:///SERVICE, file:///SERVICE, memory:///SERVICE, static:///HOST:PORT,HOST:PORT or unix:///PATH"
    )]
    Scheme {
        /// The target as given.
        target: String,
        /// Its scheme.
        scheme: String,
    },
    /// There is something between `//` and the next `/`.
    #[error(
        "target {target:?} has the authority {authority:?}; write {scheme}:/// with three slashes, and name the registry's hosts in its URL"
    )]
    Authority {
        /// The target as given.
        target: String,
        /// Its scheme.
        scheme: String,
        /// What stands where nothing should.
        authority: String,
    },
    /// What follows `?` selects nothing.
    #[error("target {target:?} selects instances by {query:?}: {problem}")]
    Selector {
        /// The target as given.
        target: String,
        /// What follows `?`.
        query: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The service's name or an address is not one.
    #[error("target {target:?} is not usable")]
    Name {
        /// The target as given.
        target: String,
        /// Why.
        source: InvalidInstance,
    },
}

const NOT_OF_ADDRESSES: &str = "addresses that are listed have neither a version nor labels; write service=NAME to say who answers there";
const REGISTRIES: [&str; 4] = ["etcd", "file", "fixed", "memory"];

impl Target {
    /// The service, where one is named.
    #[cfg(feature = "tls")]
    pub(crate) fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Service { service, .. } => Some(service),
            Self::Static { service, .. } => service.as_ref(),
        }
    }

    /// What the calls say in `:authority`: the service's name, or the first address; `localhost` for a Unix socket (gRPC's
    /// habit, as a path cannot be an authority).
    pub(crate) fn authority(&self) -> String {
        match self {
            // The one character of a name that an authority cannot have is '/'.
            Self::Service { service, .. }
            | Self::Static {
                service: Some(service),
                ..
            } => service.as_str().replace('/', "."),
            Self::Static { addresses, .. } if addresses[0].unix_path().is_some() => {
                "localhost".into()
            }
            Self::Static { addresses, .. } => addresses[0].to_string(),
        }
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(target: &str) -> Result<Self, Self::Err> {
        let name = |source| InvalidTarget::Name {
            target: target.into(),
            source,
        };
        if target.starts_with("unix:") {
            let socket = Address::new(target).map_err(name)?;
            return Ok(Self::Static {
                addresses: vec![socket],
                service: None,
            });
        }
        let (named, query) = match target.split_once('?') {
            Some((named, query)) => (named, Some(query)),
            None => (target, None),
        };
        let refused = |query: &str, problem| InvalidTarget::Selector {
            target: target.into(),
            query: query.into(),
            problem,
        };
        let selector = || {
            let parsed = query.map(|q| Selector::parse(q).map_err(|problem| refused(q, problem)));
            parsed.transpose().map(Option::unwrap_or_default)
        };
        let Some((scheme, rest)) = named.split_once("://") else {
            return Ok(Self::Service {
                scheme: None,
                service: ServiceName::new(named).map_err(name)?,
                selector: selector()?,
            });
        };
        let known = scheme == "static" || REGISTRIES.contains(&scheme);
        if !known {
            return Err(InvalidTarget::Scheme {
                target: target.into(),
                scheme: scheme.into(),
            });
        }
        let Some(endpoint) = rest.strip_prefix('/') else {
            let authority = rest.split('/').next().unwrap_or_default().into();
            return Err(InvalidTarget::Authority {
                target: target.into(),
                scheme: scheme.into(),
                authority,
            });
        };
        if scheme == "static" {
            let service = query.map(|query| match query.strip_prefix("service=") {
                Some(service) => ServiceName::new(service).map_err(name),
                None => Err(refused(query, NOT_OF_ADDRESSES.into())),
            });
            let addresses = endpoint
                .split(',')
                .map(|address| Address::new(address.trim()));
            return Ok(Self::Static {
                addresses: addresses.collect::<Result<_, _>>().map_err(name)?,
                service: service.transpose()?,
            });
        }
        let service = ServiceName::new(endpoint).map_err(name)?;
        Ok(Self::Service {
            scheme: Some(scheme.into()),
            service,
            selector: selector()?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service {
                scheme,
                service,
                selector,
            } => {
                if let Some(scheme) = scheme {
                    write!(f, "{scheme}:///")?;
                }
                service.fmt(f)?;
                if selector.is_empty() {
                    Ok(())
                } else {
                    write!(f, "?{selector}")
                }
            }
            Self::Static { addresses, service } => {
                if let ([socket], None) = (&addresses[..], service)
                    && let Some(path) = socket.unix_path()
                {
                    return write!(f, "unix://{}", path.display());
                }
                let list: Vec<_> = addresses.iter().map(Address::as_str).collect();
                write!(f, "static:///{}", list.join(","))?;
                match service {
                    Some(service) => write!(f, "?service={service}"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn every_form_of_target_reads_back_as_it_was_written() {
        for text in [
            "greeter",
            "shop/basket",
            "etcd:///greeter",
            "file:///greeter",
            "static:///10.0.0.1:1,[::1]:2",
            "greeter?version=v2",
            "etcd:///greeter?version=v2.1-rc&label.tier=gold&label.x%20y=%C3%A4%26",
            "static:///unix:/run/a.sock,10.0.0.1:1",
            "unix:///run/greeter.sock",
            "static:///10.0.0.1:1?service=shop/basket",
            "static:///unix:/run/a.sock?service=greeter",
        ] {
            assert_eq!(text.parse::<Target>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_unix_socket_is_called_localhost_however_it_is_named() {
        for text in [
            "unix:///run/a.sock",
            "unix:/run/a.sock",
            "static:///unix:/run/a.sock",
        ] {
            let target = text.parse::<Target>().expect(text);
            assert_eq!(target.to_string(), "unix:///run/a.sock");
            assert_eq!(target.authority(), "localhost");
        }
    }

    #[test]
    fn a_refusal_names_the_target_and_what_would_do() {
        let cases = [
            ("localhost:50051", "service name"),
            ("http:///greeter", "static:///HOST:PORT"),
            ("etcd://10.0.0.1:2379/greeter", "three slashes"),
            ("static:///10.0.0.1", "host:port"),
            ("greeter?zone=a", "label.NAME"),
            ("greeter?version=1&version=2", "twice"),
            ("greeter?", "KEY=VALUE"),
            ("static:///10.0.0.1:1?version=v2", "service=NAME"),
            ("static:///10.0.0.1:1?service=_x", "service name"),
            ("unix:a.sock", "unix:/path"),
            ("", "empty"),
        ];
        for (text, says) in cases {
            let error = text.parse::<Target>().expect_err(text);
            let message = registry::one_line(&error);
            assert!(
                message.contains(&format!("{text:?}")) && message.contains(says),
                "{message}"
            );
        }
    }
}
