//! Who is there: instances, the places that keep them, and the two things that are done with them for ever.
//!
//! - An [`Instance`] is one running copy of a service; its parts are validated once, in their constructors.
//! - A [`Store`] keeps instances: an etcd cluster, a directory, a fixed list or this process's memory ([`backend`]).
//! - A [`Registration`] holds an instance in a store, and puts it back whenever it is lost. What follows a service
//!   ([`Registry::watch`]) lists and watches, and lists again on every new connection; an error makes a [`Snapshot`]
//!   stale and never empty. Both are written once, over any store.
//! - A [`Document`] is a text that a store keeps for a service and nobody here parses: its service config. It is
//!   followed in the same way ([`Registry::document`]).
//! - An [`Intent`] is what an operator wants of an instance, a status or a weight. It is kept apart from the instance and
//!   wins over what that says of itself ([`Registry::set_intent`]).
//!
//! [`Registry`] is the façade over all of it, and [`connect`] leads to it from a URL:
//!
//! ```
//! use registry::{Address, Instance, ServiceName};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = registry::connect("memory:")?;
//! let greeter = Instance::new(ServiceName::new("greeter")?, Address::new("10.0.0.7:50051")?);
//! let registration = registry.register(greeter, Duration::from_secs(10));
//! // … serve …
//! registration.deregister().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here reads an environment variable or keeps a global: all arrives as an argument.

pub mod backend;
mod backoff;
mod bounded;
mod cache;
mod connect;
pub mod dialect;
mod document;
mod error;
mod follow;
mod freshness;
mod instance;
mod intent;
mod member;
mod placement;
mod record;
mod reflector;
mod registration;
mod registry;
mod snapshot;
mod store;
pub mod tls;
mod undecodable;

pub use backoff::{Backoff, BackoffPolicy};
pub use connect::{ConnectError, connect, connect_with};
pub use document::{Document, DocumentView, DocumentWatch, FoundDocument, InvalidDocument};
pub use error::{Cause, StoreError, one_line};
pub use freshness::Freshness;
pub use instance::{
    Address, Incarnation, Instance, InstanceId, InvalidInstance, Origin, ServiceName, Status,
    Weight, Zone,
};
pub use intent::{Intent, Intents, InvalidIntent};
pub use member::{Member, MemberStatus};
pub use placement::{Lease, Placement};
pub use reflector::{SnapshotWatch, View};
pub use registration::{Registration, RegistrationState};
pub use registry::Registry;
pub use snapshot::{Change, Revision, Snapshot, Update};
pub use store::{Claim, Hold, HoldRequest, Loss, Reconciled, Store};
pub use undecodable::Undecodable;
