//! gRPC's own interoperability cases for [`balance::Channel`], and tonic's server with the service that they call.
//!
//! What each case sends and asserts is written in grpc/grpc `doc/interop-test-descriptions.md`. The contract is gRPC's,
//! so that the cases also run against the interop servers of other languages.
//!
//! ```
//! use interop::{Case, server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let target = format!("static:///{}", listener.local_addr()?);
//! tokio::spawn(server::serve(listener, server::TestService::default()));
//!
//! let channel = balance::Channel::builder(target).build()?;
//! Case::PingPong.run(&channel).await?;
//! # Ok(())
//! # }
//! ```

mod case;
mod payload;
pub mod server;
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::pedantic,
    reason = "generated: the lints would judge the generator"
)]
mod testing {
    tonic::include_proto!("grpc.testing");
}
mod wire;

pub use case::{Case, Verdict};
