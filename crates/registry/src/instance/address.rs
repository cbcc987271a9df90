//! `host:port`, as it is dialled.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use super::{
    InvalidInstance,
    name::{host_problem, size_problem},
};

const ALLOWED: &str = "an address is host:port in at most 253 bytes, where the host is an IPv4 address, an IPv6 address in brackets or a host name, and the port is from 1 to 65535";

/// Where an instance answers: `10.0.0.7:50051`, `[fd00::7]:50051` or `greeter-0.example:50051`; at most 253 bytes.
///
/// ```
/// use registry::Address;
/// assert_eq!(Address::new("[::1]:80")?.port(), 80);
/// assert!(Address::new("10.0.0.7").is_err());
/// assert!(Address::new("10.0.0.7:0").is_err());
/// # Ok::<(), registry::InvalidInstance>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: Arc<str>,
    port: u16,
}

impl Address {
    /// The address, or the reason why it cannot be one.
    pub fn new(address: &str) -> Result<Self, InvalidInstance> {
        match parse(address) {
            Ok(port) => Ok(Self {
                text: address.into(),
                port,
            }),
            Err(problem) => Err(InvalidInstance::new("address", address, problem, ALLOWED)),
        }
    }

    /// The address as text, as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let host = self
            .text
            .rsplit_once(':')
            .map_or(&*self.text, |(host, _)| host);
        host.strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket address, when the host is an IP address and no name has to be looked up.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host()
            .parse::<IpAddr>()
            .ok()
            .map(|ip| SocketAddr::new(ip, self.port))
    }
}

fn parse(address: &str) -> Result<u16, String> {
    if let Some(problem) = size_problem(address) {
        return Err(problem);
    }
    let (host, port) = address.rsplit_once(':').ok_or("has no port")?;
    match host.strip_prefix('[') {
        Some(bracketed) => {
            let ip = bracketed
                .strip_suffix(']')
                .ok_or("has no closing bracket")?;
            ip.parse::<Ipv6Addr>()
                .map_err(|_| "has no IPv6 address in its brackets")?;
        }
        None => {
            if let Some(problem) = host_problem(host) {
                return Err(format!("has a host that {problem}"));
            }
        }
    }
    // `parse` alone would take "+80".
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if digits && number > 0 => Ok(number),
        _ => Err(format!("has the port {port:?}")),
    }
}

impl From<SocketAddr> for Address {
    /// # Panics
    /// When the port is 0, which nothing can be reached at.
    fn from(address: SocketAddr) -> Self {
        assert_ne!(address.port(), 0, "an address to be reached at has a port");
        Self {
            text: address.to_string().into(),
            port: address.port(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = InvalidInstance;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Address;
    use crate::InstanceId;

    #[test]
    fn every_form_of_host_is_read() {
        for (text, host) in [
            ("10.0.0.7:1", "10.0.0.7"),
            ("[fd00::7]:65535", "fd00::7"),
            ("a-b.c:80", "a-b.c"),
        ] {
            let address = Address::new(text).expect(text);
            assert_eq!((address.as_str(), address.host()), (text, host));
        }
    }

    #[test]
    fn every_address_can_be_an_id() {
        let longest = format!("{}:65535", "h".repeat(247));
        let address = Address::new(&longest).expect("253 bytes");
        let id = InstanceId::from(&address);
        assert_eq!(InstanceId::new(id.as_str()), Ok(id));
        let refused = Address::new(&format!("h{longest}")).expect_err("254 bytes");
        assert!(
            refused.to_string().contains("is 254 bytes long"),
            "{refused}"
        );
    }

    #[test]
    fn a_refusal_names_the_value_and_what_is_allowed() {
        for bad in [
            "", ":", ":80", "a:", "a:b", "a:70000", "a:+8", "::1:80", "[::1]", "[::1:80", "a/b:80",
            "a b:1",
        ] {
            let message = Address::new(bad).expect_err(bad).to_string();
            assert!(
                message.contains(&format!("{bad:?}")) && message.contains("host:port"),
                "{message}"
            );
        }
    }
}
