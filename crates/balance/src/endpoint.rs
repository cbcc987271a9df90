//! An instance as the balancer sees it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use registry::Instance;

use crate::transport::Connection;

/// An instance, and what this channel has done with it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) instance: Arc<Instance>,
    pub(crate) load: Arc<Load>,
}

/// How much this channel has given an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Load {
    in_flight: AtomicUsize,
    picks: AtomicU64,
}

impl Load {
    /// Calls that have been given to the endpoint and have not ended.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Attempts that have ever been given to the endpoint.
    pub(crate) fn picks(&self) -> u64 {
        self.picks.load(Ordering::Relaxed)
    }
}

impl Endpoint {
    pub(crate) fn new(instance: Arc<Instance>) -> Self {
        Self {
            instance,
            load: Arc::default(),
        }
    }

    /// The same endpoint with what its instance says of itself now.
    pub(crate) fn with(&self, instance: Arc<Instance>) -> Self {
        Self {
            instance,
            load: Arc::clone(&self.load),
        }
    }

    /// Whether `instance` is this endpoint still. Another start of the process is another endpoint, with fresh
    /// statistics; all else an instance says of itself may change in place.
    pub(crate) fn is_still(&self, instance: &Instance) -> bool {
        let own = &self.instance;
        own.id == instance.id
            && own.incarnation == instance.incarnation
            && own.addresses() == instance.addresses()
    }
}

/// An endpoint with a connection that takes calls.
#[derive(Debug, Clone)]
pub(crate) struct ReadyEndpoint {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) connection: Arc<Connection>,
}

/// Counts one call as in flight for as long as it is held. Not `Clone`: a call is counted down once.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Load>);

impl InFlight {
    pub(crate) fn count(endpoint: &Endpoint) -> Self {
        endpoint.load.picks.fetch_add(1, Ordering::Relaxed);
        endpoint.load.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&endpoint.load))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
