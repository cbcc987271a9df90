//! Which instance to call, and calling it: a gRPC channel to all instances of a service.
//!
//! A [`Channel`] follows a registry, keeps a connection to each instance, and gives each call to one of them. It is a
//! [`tower::Service`], so that any tonic client runs over it as it is; nothing of tonic is in it.
//!
//! ```
//! use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
//! # use registry::{Registry, backend::memory::MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let registry = Registry::new(MemoryStore::new());
//! let channel = balance::Channel::builder("greeter").registry(&registry).build()?;
//! let mut greeter = GreeterClient::new(channel);
//! let answer = greeter.say_hello(HelloRequest { name: "world".into() }).await;
//! // Nobody has registered here, and the status says so.
//! assert!(answer.unwrap_err().message().contains("no instance of greeter"));
//! # Ok(())
//! # }
//! ```
//!
//! # How it meets
//!
//! ```text
//! target ─ resolver ─▶ instances ─▶ driver ◀── subchannel states
//!                                     │ publishes a picker
//!                                     ▼
//!                        call ─ pick ─ attempt on a connection ─▶ retry ─▶ response
//! ```
//!
//! One task keeps the endpoints and publishes an immutable picker; a call picks, opens a stream and waits for its
//! response on its caller's own task, and takes no lock of ours.
//!
//! # What callers can count on
//!
//! - A connection is used only after its peer has answered a PING, and leaves the picker when its socket dies.
//! - A call waits while the channel is resolving or connecting. It fails only when no instance can be reached, with
//!   `UNAVAILABLE` and the cause, and not even then when it [waits for ready](WaitForReady).
//! - A call that never left goes to another instance, until its deadline; one that a server refused unseen once; and one
//!   that failed as the service config's retry or hedging policy says (gRFC A6), with requests that stream as well.
//! - An instance that hangs is found out by a PING after the first deadline that passes in silence, and gets no call until it
//!   answers; a short deadline alone is held against nobody.
//! - An instance that the registry drops gets no new call and finishes those that it has. When the registry drops all, or
//!   most at once, those still connected serve on until others come.
//! - Dropping a call, or a response's body, cancels it on the server, and so does its deadline, which is held to the
//!   millisecond, even when nobody reads the response.

mod channel;
mod endpoint;
mod health;
mod load;
mod options;
mod orca;
mod outlier;
pub mod policy;
mod resolver;
mod retry;
mod service_config;
mod single_answers;
mod status;
mod subchannel;
mod target;
mod telemetry;
pub mod trace;
mod transport;

pub use channel::{
    BuildError, Builder, Channel, ConnectionExplanation, EjectionExplanation, EndpointExplanation,
    Explanation, LeftOut, RefusedServiceConfig, ResponseFuture,
};
pub use options::{Affinity, HashKey, Priority, ServedBy, TellServedBy, WaitForReady};
pub use resolver::Unresolvable;
pub use service_config::{InvalidServiceConfig, check_service_config};
pub use status::Code;
pub use subchannel::ConnectivityState;
pub use target::{InvalidTarget, Selector, Target};
pub use telemetry::OptionalLabel;
#[cfg(feature = "tls")]
pub use transport::{ClientTls, InvalidTls};
pub use transport::{KeepAlive, ResponseBody, timeout_of};
