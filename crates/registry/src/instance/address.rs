//! Where an instance answers, as it is dialled.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    path::Path,
    str::FromStr,
    sync::Arc,
};

use super::{
    InvalidInstance,
    name::{MAX_BYTES, host_problem, size_problem},
};

const ALLOWED: &str = "an address is host:port in at most 253 bytes, where the host is an IPv4 address, an IPv6 address in brackets or a host name, and the port is from 1 to 65535; or it is unix:/path of a socket, absolute and at most 107 bytes long";
/// What a socket's address begins with, as gRPC writes it (grpc/grpc `doc/naming.md`).
const UNIX: &str = "unix:";
/// What `sockaddr_un` holds beside its NUL.
const MAX_PATH: usize = 107;

/// Where an instance answers: `10.0.0.7:50051`, `[fd00::7]:50051` or `greeter-0.example:50051`, at most 253 bytes; or on a
/// Unix socket of the same machine, `unix:/run/greeter.sock`, which may be written `unix:///run/greeter.sock`.
///
/// ```
/// use registry::Address;
/// assert_eq!(Address::new("[::1]:80")?.port(), Some(80));
/// assert_eq!(Address::new("unix:///run/greeter.sock")?.as_str(), "unix:/run/greeter.sock");
/// for bad in ["10.0.0.7", "10.0.0.7:0", "unix:greeter.sock"] {
///     assert!(Address::new(bad).is_err(), "{bad}");
/// }
/// # Ok::<(), registry::InvalidInstance>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: Arc<str>,
    /// `None` for a Unix socket.
    port: Option<NonZeroU16>,
}

impl Address {
    /// The address, or the reason why it cannot be one.
    pub fn new(address: &str) -> Result<Self, InvalidInstance> {
        let refused = |problem| InvalidInstance::new("address", address, problem, ALLOWED);
        match address.strip_prefix(UNIX) {
            Some(path) if path.starts_with('/') => {
                let path = path.strip_prefix("//").unwrap_or(path);
                if let Some(problem) = path_problem(path) {
                    return Err(refused(problem));
                }
                Ok(Self {
                    text: format!("{UNIX}{path}").into(),
                    port: None,
                })
            }
            _ => Ok(Self {
                port: Some(parse(address).map_err(refused)?),
                text: address.into(),
            }),
        }
    }

    /// The address as text, as it was given; a Unix socket's as `unix:/path`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, an IPv6 address without its brackets; `None` of a Unix socket.
    pub fn host(&self) -> Option<&str> {
        self.port?;
        let (host, _port) = self.text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        Some(bare.unwrap_or(host))
    }

    /// The port, never 0; `None` of a Unix socket.
    pub fn port(&self) -> Option<u16> {
        self.port.map(NonZeroU16::get)
    }

    /// The socket address, when the host is an IP address and no name has to be looked up.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let ip = self.host()?.parse::<IpAddr>().ok()?;
        Some(SocketAddr::new(ip, self.port()?))
    }

    /// The path of a Unix socket.
    pub fn unix_path(&self) -> Option<&Path> {
        match self.port {
            None => self.text.strip_prefix(UNIX).map(Path::new),
            Some(_) => None,
        }
    }

    /// The id of an instance that has no other: the address, in which a Unix socket's path is written as one segment.
    pub(super) fn to_id(&self) -> Arc<str> {
        match self.port {
            Some(_) => Arc::clone(&self.text),
            None => escaped(&self.text[UNIX.len()..]).into(),
        }
    }
}

/// A path as an id: each byte that an id cannot have, and `_` itself, as `_` and two digits.
fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let bytes = path.bytes().map(|byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("_{byte:02x}"),
    });
    std::iter::once("unix".to_owned()).chain(bytes).collect()
}

/// What keeps `path` from being a socket's that can be written into any list, target or id.
fn path_problem(path: &str) -> Option<String> {
    let bad = |c: &char| c.is_control() || c.is_whitespace() || matches!(c, ',' | '?');
    if !path.starts_with('/') || path.starts_with("//") {
        return Some("has a path that is not absolute".into());
    }
    if path.ends_with('/') {
        return Some("has a path that names no file".into());
    }
    if let Some(bad) = path.chars().find(bad) {
        return Some(format!("has a path that contains {bad:?}"));
    }
    if path.len() > MAX_PATH || escaped(path).len() > MAX_BYTES {
        return Some(format!("has a path of {} bytes", path.len()));
    }
    None
}

fn parse(address: &str) -> Result<NonZeroU16, String> {
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
    match port.parse() {
        Ok(number) if digits => Ok(number),
        _ => Err(format!("has the port {port:?}")),
    }
}

impl From<SocketAddr> for Address {
    /// # Panics
    /// When the port is 0, which nothing can be reached at.
    fn from(address: SocketAddr) -> Self {
        let port = NonZeroU16::new(address.port());
        assert!(port.is_some(), "an address to be reached at has a port");
        Self {
            text: address.to_string().into(),
            port,
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
            ("unix:80", "unix"),
        ] {
            let address = Address::new(text).expect(text);
            assert_eq!((address.as_str(), address.host()), (text, Some(host)));
            assert_eq!(address.unix_path(), None);
        }
    }

    #[test]
    fn a_unix_socket_has_a_path_and_neither_host_nor_port() {
        let address = Address::new("unix:///run/a_b/greeter.sock").expect("an address");
        assert_eq!(
            address,
            Address::new("unix:/run/a_b/greeter.sock").expect("the same")
        );
        let path = address.unix_path().and_then(|path| path.to_str());
        assert_eq!(path, Some("/run/a_b/greeter.sock"));
        assert_eq!((address.host(), address.port()), (None, None));
        assert_eq!(address.socket_addr(), None);
        let id = InstanceId::from(&address);
        assert_eq!(id.as_str(), "unix_2frun_2fa_5fb_2fgreeter.sock");
        assert_eq!(InstanceId::new(id.as_str()), Ok(id));
        InstanceId::new(address.as_str()).expect_err("it would be several segments of a key");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let longest = format!("unix:/{}", "p".repeat(106));
        Address::new(&longest).expect("107 bytes");
        for long in [format!("{longest}p"), format!("unix:/{}", "_".repeat(100))] {
            let refused = Address::new(&long).expect_err("too long").to_string();
            assert!(refused.contains("bytes"), "{refused}");
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
            "",
            ":",
            ":80",
            "a:",
            "a:b",
            "a:70000",
            "a:+8",
            "::1:80",
            "[::1]",
            "[::1:80",
            "a/b:80",
            "a b:1",
            "unix:",
            "unix:x",
            "unix:/",
            "unix://host/x",
            "unix:////x",
            "unix:/a b",
            "unix:/a,b",
            "unix:/a/",
        ] {
            let message = Address::new(bad).expect_err(bad).to_string();
            assert!(
                message.contains(&format!("{bad:?}")) && message.contains("host:port"),
                "{message}"
            );
        }
    }
}
