//! Configuration in four layers, the later wins: defaults, a TOML file, the environment, the command line.

pub mod duration;
mod load;
mod print;
mod registry_url;
mod sections;
mod text;

pub use load::{Flags, Sources, load};
pub use print::to_toml;
pub use sections::{
    AdminConfig, AdminListen, Advertise, ListenAddress, LogConfig, LogFormat, RegistryConfig,
    Sections, ServerConfig, ServiceConfig,
};
