//! Who is there.
pub mod backend;
mod backoff;
mod connect;
mod dialect;
mod error;
mod instance;
mod record;
mod reflector;
mod registration;
mod registry;
mod snapshot;
mod store;
mod undecodable;

pub use backoff::{Backoff, BackoffPolicy};
pub use connect::{ConnectError, connect};
pub use error::{Cause, StoreError, one_line};
pub use instance::{
    Address, Incarnation, Instance, InstanceId, InvalidInstance, ServiceName, Status, Weight, Zone,
};
pub use reflector::{Freshness, SnapshotWatch, View};
pub use registration::{Registration, RegistrationState};
pub use registry::Registry;
pub use snapshot::{Change, Revision, Snapshot, Update};
pub use store::{Claim, Hold, HoldRequest, Loss, Store};
pub use undecodable::Undecodable;
