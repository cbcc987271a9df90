//! The sections that binaries share, as plain data.

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr, time::Duration};

use anyhow::Context;
use registry::{Address, InvalidInstance, Registry, ServiceName, Weight, Zone};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{registry_url, text};

/// A binary's whole configuration: the sections that every binary has, and its own.
///
/// Its default value is its lowest layer, and says which keys there are: a key that is not in it is refused. So every
/// field has a value that can be written as TOML (an empty text for "none"); an empty table takes any key.
pub trait Sections: Serialize + DeserializeOwned {
    /// `[registry]`
    fn registry(&self) -> &RegistryConfig;
    /// `[admin]`
    fn admin(&self) -> &AdminConfig;
    /// `[log]`
    fn log(&self) -> &LogConfig;
}

/// The configuration of a service that needs no section of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceConfig {
    /// `[registry]`
    pub registry: RegistryConfig,
    /// `[server]`
    pub server: ServerConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[log]`
    pub log: LogConfig,
}

impl ServiceConfig {
    /// The defaults of a service of that name.
    pub fn named(service: &str) -> Result<Self, InvalidInstance> {
        Ok(Self {
            registry: RegistryConfig::default(),
            server: ServerConfig::named(service)?,
            admin: AdminConfig::default(),
            log: LogConfig::default(),
        })
    }
}

impl Sections for ServiceConfig {
    fn registry(&self) -> &RegistryConfig {
        &self.registry
    }

    fn admin(&self) -> &AdminConfig {
        &self.admin
    }

    fn log(&self) -> &LogConfig {
        &self.log
    }
}

/// `[registry]`: where instances are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegistryConfig {
    /// The registry's URL; by default a directory of this user on this machine.
    pub url: String,
    /// Goes before every key in an etcd whose URL has no path; none when empty.
    pub namespace: String,
    /// How long the registry keeps an instance whose process is not heard of any more: 2 s to 10 min.
    #[serde(with = "text::ttl")]
    pub ttl: Duration,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            url: registry_url::default_url(),
            namespace: String::new(),
            ttl: Duration::from_secs(10),
        }
    }
}

impl RegistryConfig {
    /// The registry's URL with the namespace in it.
    pub fn full_url(&self) -> anyhow::Result<String> {
        registry_url::with_namespace(&self.url, &self.namespace)
    }

    /// The registry itself. Does no I/O: what cannot be reached is tried again for as long as it is used.
    pub fn connect(&self) -> anyhow::Result<Registry> {
        registry::connect(&self.full_url()?).context("cannot use the registry")
    }
}

/// `[server]`: what is served, where, and how it is announced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one.
    #[serde(with = "text")]
    pub listen: ListenAddress,
    /// The address that callers are told.
    #[serde(with = "text")]
    pub advertise: Advertise,
    /// The service's name, by which callers find it.
    #[serde(with = "text")]
    pub service: ServiceName,
    /// Where this instance runs; none when empty.
    #[serde(with = "text::optional")]
    pub zone: Option<Zone>,
    /// Which version of the service this is; none when empty.
    #[serde(with = "text::optional")]
    pub version: Option<String>,
    /// This instance's share of the calls relative to the others: 1 to 1,000,000.
    #[serde(with = "text::weight")]
    pub weight: Weight,
    /// Whether to give up when the registry cannot be reached at the start, instead of serving and trying again.
    pub require_registry: bool,
    /// How long callers are given to see that this instance drains before its keys are deleted.
    #[serde(with = "super::duration")]
    pub drain_notice: Duration,
    /// How long calls in flight may take once the server takes no new ones.
    #[serde(with = "super::duration")]
    pub drain_limit: Duration,
    /// Whatever else callers may select by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl ServerConfig {
    /// The defaults of a service of that name: a free port on loopback.
    pub fn named(service: &str) -> Result<Self, InvalidInstance> {
        Ok(Self {
            listen: ListenAddress(SocketAddr::from(([127, 0, 0, 1], 0))),
            advertise: Advertise::Auto,
            service: ServiceName::new(service)?,
            zone: None,
            version: None,
            weight: Weight::default(),
            require_registry: false,
            // A caller's watch tells within milliseconds. One second is also what the file registry's sweep takes,
            // and what a caller needs whose etcd member has just died.
            drain_notice: Duration::from_secs(1),
            drain_limit: Duration::from_secs(20),
            labels: BTreeMap::new(),
        })
    }
}

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
        let host = !text.is_empty() && Address::new(&format!("{text}:1")).is_ok();
        if host {
            Ok(Self::Host(text.to_owned()))
        } else {
            Address::new(text).map(Self::Address)
        }
    }
}

/// `[admin]`: the page for operators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdminConfig {
    /// Where the admin page listens, or `off`.
    #[serde(with = "text")]
    pub listen: AdminListen,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: AdminListen::At(SocketAddr::from(([127, 0, 0, 1], 0))),
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

/// `[log]`: what is written to stderr.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogConfig {
    /// What is logged, as `tracing-subscriber`'s `EnvFilter` reads it: `info`, `warn,balance=debug`.
    pub level: String,
    /// How a line looks.
    #[serde(with = "text")]
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Auto,
        }
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
