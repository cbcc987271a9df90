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
pub use values::{AdminListen, Advertise, Directory, ListenAddress, LogFormat};
