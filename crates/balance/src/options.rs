//! What one call can ask for, in its request's extensions, and what its response's extensions tell.
//!
//! tonic has no interface for either; both pass through its generated clients as they are.

use std::{fmt, sync::Arc};

use http::Extensions;
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

/// The instance that a call goes to for as long as it is ready; to another, as the policy says, while it is not.
///
/// The id is what [`ServedBy::id`] of an earlier response told. An attempt after one that failed there goes elsewhere.
///
/// ```
/// # use registry::{Address, InstanceId};
/// # let address = Address::new("10.0.0.7:50051")?;
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(balance::Affinity(InstanceId::from(&address)));
/// # Ok::<(), registry::InvalidInstance>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affinity(pub InstanceId);

/// Who is let in when the channel's budget of calls in flight ([`Builder::max_calls_in_flight`]) runs out.
///
/// [`Builder::max_calls_in_flight`]: crate::Builder::max_calls_in_flight
///
/// ```
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(balance::Priority::Low);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Let in while less than half of the budget is in use.
    Low,
    /// Let in while less than nine tenths of the budget are in use; of less than ten, all.
    #[default]
    Normal,
    /// Let in while anything of the budget is left.
    High,
}

impl Priority {
    /// How much of a budget calls of this priority may fill.
    pub(crate) fn share_of(self, budget: usize) -> usize {
        match self {
            Self::Low => budget.div_ceil(2),
            Self::Normal => budget - budget / 10,
            Self::High => budget,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        })
    }
}

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

/// Asks that the response tell who gave it: its extensions have [`ServedBy`] then.
///
/// ```
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(balance::TellServedBy);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TellServedBy;

/// Which instance gave a response; in the extensions of every response that an instance gave and whose request
/// [asked](TellServedBy) for it.
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

/// All that a call asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallOptions {
    pub(crate) wait_for_ready: Option<bool>,
    pub(crate) hash_key: Option<HashKey>,
    pub(crate) affinity: Option<Affinity>,
    pub(crate) priority: Priority,
    pub(crate) tells_served_by: bool,
}

impl CallOptions {
    pub(crate) fn of(extensions: &Extensions) -> Self {
        // As a rule there is what tonic's clients put there, and nothing else.
        let others = extensions.get::<tonic::GrpcMethod>().is_some();
        if extensions.len() == usize::from(others) {
            return Self::default();
        }
        Self {
            wait_for_ready: extensions.get().map(|&WaitForReady(wanted)| wanted),
            hash_key: extensions.get().copied(),
            affinity: extensions.get().cloned(),
            priority: extensions.get().copied().unwrap_or_default(),
            tells_served_by: extensions.get::<TellServedBy>().is_some(),
        }
    }
}
