//! Who is there.
pub mod backend;
mod backoff;
mod dialect;
mod error;
mod instance;
mod record;
mod snapshot;
mod store;
mod undecodable;

pub use backoff::{Backoff, BackoffPolicy};
pub use error::{Cause, StoreError, one_line};
pub use instance::{
    Address, Incarnation, Instance, InstanceId, InvalidInstance, ServiceName, Status, Weight, Zone,
};
pub use snapshot::{Change, Revision, Snapshot, Update};
pub use store::{Claim, Hold, HoldRequest, Loss, Store};
pub use undecodable::Undecodable;
