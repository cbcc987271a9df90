//! The sections that binaries share, as plain data.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::Context;
use registry::{InvalidInstance, Registry, ServiceName, Weight, Zone, dialect::Dialects};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    AdminListen, Advertise, Directory, LimitsConfig, ListenAddress, LogFormat, RegistryTlsConfig,
    TlsConfig, registry_access::Access, registry_url, text,
};

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
    /// `[trace]`
    fn trace(&self) -> &TraceConfig;
    /// `[tls]`
    fn tls(&self) -> &TlsConfig;
}

/// The configuration of a binary that serves.
pub trait ServiceSections: Sections {
    /// `[server]`
    fn server(&self) -> &ServerConfig;
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
    /// `[trace]`
    pub trace: TraceConfig,
    /// `[tls]`
    pub tls: TlsConfig,
}

impl ServiceConfig {
    /// The defaults of a service of that name.
    pub fn named(service: &str) -> Result<Self, InvalidInstance> {
        Ok(Self {
            registry: RegistryConfig::default(),
            server: ServerConfig::named(service)?,
            admin: AdminConfig::default(),
            log: LogConfig::default(),
            trace: TraceConfig::default(),
            tls: TlsConfig::default(),
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

    fn trace(&self) -> &TraceConfig {
        &self.trace
    }

    fn tls(&self) -> &TlsConfig {
        &self.tls
    }
}

impl ServiceSections for ServiceConfig {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}

/// The configuration of a binary that only calls others: what a run is to do is on its command line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientConfig {
    /// `[registry]`
    pub registry: RegistryConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[trace]`
    pub trace: TraceConfig,
    /// `[tls]`
    pub tls: TlsConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            registry: RegistryConfig::default(),
            admin: AdminConfig::default(),
            // stderr is read by the person who waits for what is printed: nothing but trouble goes between.
            log: LogConfig {
                level: "warn".into(),
                ..LogConfig::default()
            },
            trace: TraceConfig::default(),
            tls: TlsConfig::default(),
        }
    }
}

impl Sections for ClientConfig {
    fn registry(&self) -> &RegistryConfig {
        &self.registry
    }

    fn admin(&self) -> &AdminConfig {
        &self.admin
    }

    fn log(&self) -> &LogConfig {
        &self.log
    }

    fn trace(&self) -> &TraceConfig {
        &self.trace
    }

    fn tls(&self) -> &TlsConfig {
        &self.tls
    }
}

/// `[registry]`: where instances are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegistryConfig {
    /// The registry's URL; by default a directory of this user on this machine.
    pub url: String,
    /// Goes before every key in an etcd whose URL has no path; none when empty.
    #[serde(with = "text::optional")]
    pub namespace: Option<ServiceName>,
    /// Whose keys and values instances have in an etcd; the first one wins.
    #[serde(with = "text::dialects")]
    pub dialects: Dialects,
    /// Whether all that is followed in an etcd's namespace is followed by one watch.
    pub shared_watch: bool,
    /// How long the registry keeps an instance whose process is not heard of any more: 2 s to 10 min.
    #[serde(with = "text::ttl")]
    pub ttl: Duration,
    /// Where to keep what is known of the services that are called, for a start while the registry cannot be reached;
    /// nowhere when empty.
    #[serde(with = "text::optional")]
    pub cache: Option<Directory>,
    /// The user that an etcd is to know us as; none when empty. It takes the place of one in the URL.
    #[serde(with = "text::optional")]
    pub user: Option<String>,
    /// The file of the user's password.
    #[serde(with = "text::optional")]
    pub password_file: Option<String>,
    /// Whether an etcd is asked for members beside those in the URL, for when none of these answers.
    pub member_list: bool,
    /// `[registry.tls]`
    pub tls: RegistryTlsConfig,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            url: registry_url::default_url(),
            namespace: None,
            dialects: Dialects::default(),
            shared_watch: false,
            ttl: Duration::from_secs(10),
            cache: None,
            user: None,
            password_file: None,
            member_list: true,
            tls: RegistryTlsConfig::default(),
        }
    }
}

impl RegistryConfig {
    /// The registry's URL with the namespace in it.
    pub fn full_url(&self) -> String {
        match &self.namespace {
            Some(namespace) => registry_url::with_namespace(&self.url, namespace),
            None => self.url.clone(),
        }
    }

    /// The registry itself. A cluster that cannot be reached is no error: it is tried again for as long as it is used.
    ///
    /// # Errors
    /// When the URL leads nowhere, its directory or list cannot be used, a part of TLS or of the user is missing, or a watch is
    /// to be shared without a namespace.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect(&self) -> anyhow::Result<Registry> {
        let dialects = self.dialects.clone();
        let connected = Access::of(self).and_then(|access| {
            let complete = |etcd| {
                let etcd = access.applied_to(etcd).with_dialects(dialects);
                if self.shared_watch {
                    etcd.with_shared_watch()
                } else {
                    Ok(etcd)
                }
            };
            Ok(registry::connect_with(&self.full_url(), complete)?)
        });
        let registry = connected.context("cannot use the registry")?;
        Ok(match &self.cache {
            Some(directory) => registry.with_cache(directory.path()),
            None => registry,
        })
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
    /// `[server.limits]`
    pub limits: LimitsConfig,
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
            limits: LimitsConfig::default(),
        })
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

/// `[trace]`: which calls are traced, where there is a collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceConfig {
    /// The share of the calls that nobody has decided of which are traced, 0 to 1: those whose caller says nothing of a trace.
    #[serde(with = "text::share")]
    pub sample_ratio: f64,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { sample_ratio: 0.01 }
    }
}
