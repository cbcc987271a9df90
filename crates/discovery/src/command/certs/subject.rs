//! Whom a certificate is for.

use std::{net::IpAddr, str::FromStr};

use registry::ServiceName;

/// A service, and the names and addresses that it is known by besides: `greeter=localhost,127.0.0.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) service: ServiceName,
    pub(super) dns: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
}

impl Subject {
    /// The names and addresses, as text.
    pub(super) fn names(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(ToString::to_string);
        self.dns.iter().cloned().chain(addresses).collect()
    }
}

impl FromStr for Subject {
    type Err = String;

    /// The service's own name is a DNS name of its too, with `.` for `/`: the one that a caller without a trust domain asks for.
    fn from_str(text: &str) -> Result<Self, String> {
        let (service, names) = match text.split_once('=') {
            Some((service, names)) => (service, names.split(',').collect()),
            None => (text, Vec::new()),
        };
        let service = ServiceName::new(service).map_err(|invalid| invalid.to_string())?;
        let own = service.as_str().replace('/', ".");
        let mut subject = Self {
            service,
            dns: Vec::from_iter(is_dns_name(&own).then_some(own)),
            addresses: Vec::new(),
        };
        for name in names {
            match name.parse() {
                Ok(address) if subject.addresses.contains(&address) => {}
                Ok(address) => subject.addresses.push(address),
                Err(_) if !is_dns_name(name.strip_prefix("*.").unwrap_or(name)) => {
                    return Err(format!(
                        "{name:?} is no DNS name and no address; write SERVICE=localhost,127.0.0.1"
                    ));
                }
                Err(_) if subject.dns.iter().any(|known| known == name) => {}
                Err(_) => subject.dns.push(name.to_owned()),
            }
        }
        Ok(subject)
    }
}

/// A host's name (RFC 1123, section 2.1), or one with `_`, which containers have.
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::Subject;

    #[test]
    fn a_service_is_known_by_its_own_name_and_by_those_given() {
        for (text, names) in [
            ("greeter", &["greeter"][..]),
            (
                "etcd-0=etcd-0,localhost,127.0.0.1,::1,127.0.0.1",
                &["etcd-0", "localhost", "127.0.0.1", "::1"],
            ),
            ("shop/basket=*.basket", &["shop.basket", "*.basket"]),
            ("-odd-", &[]),
        ] {
            let subject: Subject = text.parse().expect(text);
            assert_eq!(subject.names(), names, "{text}");
        }
    }

    #[test]
    fn what_can_be_no_name_is_refused() {
        for text in [
            "",
            "../etc",
            "greeter=",
            "greeter=a b",
            "greeter=a,,b",
            "greeter=-a",
            "greeter=http://a",
            "=a",
        ] {
            text.parse::<Subject>().expect_err(text);
        }
    }
}
