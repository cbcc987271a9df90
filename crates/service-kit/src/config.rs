//! Configuration in four layers, the later wins: defaults, a TOML file, the environment, the command line.

pub mod duration;
mod file;
mod limits;
mod load;
mod print;
mod registry_access;
mod registry_url;
mod sections;
mod text;
mod tls;
mod values;

pub use limits::LimitsConfig;
pub(crate) use limits::as_usize;
pub use load::{Flags, Sources, load};
pub use print::to_toml;
pub use registry_access::RegistryTlsConfig;
pub use sections::{
    AdminConfig, ClientConfig, LogConfig, RegistryConfig, Sections, ServerConfig, ServiceConfig,
    ServiceSections, TraceConfig,
};
pub(crate) use tls::Tls;
pub use tls::{Allow, Pattern, TlsConfig};
pub use values::{AdminListen, Advertise, Directory, ListenAddress, LogFormat};
