//! What every binary shares: configuration, telemetry, health, the admin page and the life cycle.
//!
//! A service's `main` is its arguments, its defaults, and what it serves:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use clap::Parser;
//! use service_kit::{KitArgs, ServerArgs, Service, ServiceConfig};
//! # use tonic_health::pb::health_server::HealthServer as GreeterServer;
//! # fn greeter() -> tonic_health::server::HealthService {
//! #     tonic_health::server::HealthService::from_health_reporter(tonic_health::server::HealthReporter::new())
//! # }
//!
//! /// Greets whoever asks.
//! #[derive(Parser)]
//! #[command(version)]
//! struct Args {
//!     #[command(flatten)]
//!     server: ServerArgs,
//!     #[command(flatten)]
//!     kit: KitArgs,
//! }
//!
//! fn main() -> ExitCode {
//!     let args = Args::parse();
//!     service_kit::run(&args.kit, ServiceConfig::named("greeter"), args.server.flags(), async |config, telemetry| {
//!         let service = Service::bind(&config, telemetry).await?;
//!         let greeter = GreeterServer::new(greeter()).max_decoding_message_size(service.message_size());
//!         service.add_service(greeter).serve().await
//!     })
//! }
//! ```
//!
//! That listens, answers gRPC's health protocol, registers `greeter` where callers find it, serves metrics and readiness on an admin
//! page, and on SIGTERM tells callers to go elsewhere before it finishes what it has. A binary that only calls others takes
//! [`run`], [`channel_to`] and [`Admin`].

pub mod admin;
mod advertise;
mod args;
mod calling;
pub mod config;
mod health;
mod lifecycle;
#[cfg(doctest)]
mod readme;
mod run;
mod server;
mod service;
mod signals;
mod systemd;
mod telemetry;
pub mod terminal;

pub use admin::{Admin, AdminServer};
pub use args::{ConfigArgs, KitArgs, ServerArgs};
pub use calling::channel_to;
pub use config::{ClientConfig, Sections, ServiceConfig, ServiceSections};
pub use lifecycle::Readiness;
pub use run::run;
pub use server::Caller;
pub use service::Service;
pub use signals::Signals;
pub use telemetry::Telemetry;
