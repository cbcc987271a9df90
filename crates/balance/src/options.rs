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

/// What a policy that hashes (`ring_hash`, `maglev`) sends by: calls with equal keys go to the same instance, for as long
/// as it is there. Wins over the header that the policy is told to hash.
///
/// ```
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(balance::HashKey::of("customer 4711"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashKey(pub u64);

impl HashKey {
    /// The key of these bytes: `XX_HASH` (64 bits, seed 0), as in gRFC A42.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(twox_hash::XxHash64::oneshot(0, bytes.as_ref()))
    }
}

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
