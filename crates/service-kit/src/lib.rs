//! What every binary shares: configuration, telemetry, health, the admin page and the life cycle.

pub mod admin;
mod args;
pub mod config;
mod run;
mod telemetry;

pub use admin::{Admin, AdminServer};
pub use args::{KitArgs, ServerArgs};
pub use config::{Sections, ServiceConfig};
pub use run::run;
pub use telemetry::Telemetry;
