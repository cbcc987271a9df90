//! What tests, the demo and the benchmarks run against: real processes, etcd clusters, PostgreSQL servers and
//! collectors of telemetry on this machine.
//!
//! It depends on no other crate of the workspace: it starts binaries by path and speaks their command lines, so that no
//! circle of dev-dependencies compiles a type twice. Everything it starts ends with its owner, and with this process.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use testkit::etcd::Cluster;
//!
//! let mut cluster = Cluster::start(3).await?;
//! println!("{}", cluster.url("shop"));
//! let leader = cluster.leader().await?;
//! cluster.kill(leader).await?;
//! # Ok(()) }
//! ```

pub mod clock;
pub mod etcd;
mod eventually;
pub mod fleet;
pub mod frames;
pub mod hostile;
pub mod http;
pub mod link;
pub mod otlp;
mod output;
mod ports;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod sight;
pub mod tls;
mod unable;

pub use eventually::{eventually, until};
pub use nix::sys::signal::Signal;
pub use ports::Port;
pub use unable::Unable;
