//! Values that are text in a file: each is checked once, when it is read.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use registry::{Address, InvalidInstance};

/// Where to listen: an IP address and a port, which may be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| {
            format!(
                "{text:?} is no address to listen on; it is IP:PORT, such as 127.0.0.1:50051, 0.0.0.0:50051 or [::]:0"
            )
        })
    }
}

/// A directory to keep something in, by an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(PathBuf);

impl Directory {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl FromStr for Directory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = PathBuf::from(text);
        if path.is_absolute() {
            Ok(Self(path))
        } else {
            Err(format!(
                "{text:?} is no absolute path of a directory, such as /var/cache/discovery"
            ))
        }
    }
}

/// The address that callers are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Advertise {
    /// Where this host is reached by whoever reaches the registry.
    #[default]
    Auto,
    /// This host, at the port that the server listens on.
    Host(String),
    /// This address, whatever the server listens on.
    Address(Address),
}

impl fmt::Display for Advertise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Host(host) => f.write_str(host),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromStr for Advertise {
    type Err = InvalidInstance;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        // A host alone is one that would do with a port.
        let host = !text.is_empty()
            && Address::new(&format!("{text}:1")).is_ok_and(|address| address.port().is_some());
        if host {
            Ok(Self::Host(text.to_owned()))
        } else {
            Address::new(text).map(Self::Address)
        }
    }
}

/// Where the admin page listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminListen {
    /// Nowhere.
    Off,
    /// Here; port 0 takes a free one.
    At(SocketAddr),
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl FromStr for AdminListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let listen: ListenAddress = text.parse().map_err(|e| format!("{e}, or \"off\""))?;
        Ok(Self::At(listen.0))
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text when stderr is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    const ALL: [Self; 3] = [Self::Auto, Self::Text, Self::Json];
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |format: &Self| format.to_string() == text;
        let known = Self::ALL.into_iter().find(named);
        known.ok_or_else(|| format!("{text:?} is no log format; it is auto, text or json"))
    }
}
