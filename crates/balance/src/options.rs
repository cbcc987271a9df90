//! What one call can ask for, in its request's extensions, and what its response's extensions tell.
//!
//! tonic has no interface for either; both pass through its generated clients as they are.

use std::sync::Arc;

use registry::{Address, Instance, InstanceId};

/// Whether a call waits for an instance instead of failing when none can be reached (gRPC's wait-for-ready).
///
/// Wins over `waitForReady` of the service config. The call's deadline still bounds the wait.
///
/// ```
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(balance::WaitForReady(true));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitForReady(pub bool);

/// Which instance gave a response; in the extensions of every response that an instance gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedBy(pub(crate) Arc<Instance>);

impl ServedBy {
    /// The instance's id.
    pub fn id(&self) -> &InstanceId {
        &self.0.id
    }

    /// The instance's preferred address.
    pub fn address(&self) -> &Address {
        self.0.address()
    }
}
