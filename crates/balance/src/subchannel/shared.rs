//! What an endpoint's worker and its calls share.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use registry::Backoff;
use tokio::{sync::Notify, time::Instant};

use super::{
    ConnectivityState, SubchannelState,
    pool::{Member, Pool},
};
use crate::endpoint::Endpoint;

#[derive(Debug)]
pub(super) struct Shared {
    /// Whose they are; told whether a connection takes calls.
    endpoint: OnceLock<Weak<Endpoint>>,
    state: ArcSwap<SubchannelState>,
    pub(super) pool: Pool,
    /// To end a backoff.
    pub(super) retry: Notify,
    /// What a worker remembers for the next, if there is anything.
    backoff: Mutex<Option<Box<Backoff>>>,
    /// Counts the workers, so that one that was ended while it ran changes nothing any more.
    turn: Mutex<u64>,
}

/// How a subchannel stands from now on.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) connectivity: ConnectivityState,
    pub(super) failure: Option<Arc<str>>,
    pub(super) unhealthy: Option<Arc<str>>,
}

impl Standing {
    pub(super) fn new(connectivity: ConnectivityState) -> Self {
        Self {
            connectivity,
            failure: None,
            unhealthy: None,
        }
    }

    pub(super) fn unhealthy(why: Arc<str>) -> Self {
        Self {
            unhealthy: Some(why),
            ..Self::new(ConnectivityState::Ready)
        }
    }

    pub(super) fn failing(why: Arc<str>) -> Self {
        Self {
            failure: Some(why),
            ..Self::new(ConnectivityState::TransientFailure)
        }
    }
}

/// Idle, and nobody's yet.
impl Default for Shared {
    fn default() -> Self {
        Self {
            endpoint: OnceLock::new(),
            state: ArcSwap::from_pointee(SubchannelState {
                connectivity: ConnectivityState::Idle,
                since: Instant::now(),
                failure: None,
                unhealthy: None,
            }),
            pool: Pool::default(),
            retry: Notify::new(),
            backoff: Mutex::default(),
            turn: Mutex::default(),
        }
    }
}

impl Shared {
    /// It is this endpoint's from now on.
    pub(super) fn belongs_to(&self, endpoint: &Arc<Endpoint>) {
        self.endpoint.get_or_init(|| Arc::downgrade(endpoint));
    }

    pub(super) fn state(&self) -> Arc<SubchannelState> {
        self.state.load_full()
    }

    /// Ends whatever worker there is, and gives the number of the next. The connections take no more calls.
    pub(super) fn begin_turn(&self, state: ConnectivityState) -> u64 {
        let mut turn = self.turn();
        *turn += 1;
        self.pool.retire();
        self.make(Standing::new(state));
        *turn
    }

    /// Makes `standing` and, where they are given, `members` known, if it is still that worker's turn. Says whether the state
    /// is another now.
    pub(super) fn publish(
        &self,
        worker: u64,
        standing: Standing,
        members: Option<Vec<Member>>,
    ) -> bool {
        let turn = self.turn();
        if *turn != worker {
            return false;
        }
        if let Some(members) = members {
            self.pool.set(members);
        }
        self.make(standing)
    }

    /// Whose connections they are; `None` when it is gone.
    pub(super) fn endpoint(&self) -> Option<Arc<Endpoint>> {
        self.endpoint.get()?.upgrade()
    }

    pub(super) fn weak_endpoint(&self) -> Weak<Endpoint> {
        self.endpoint.get().cloned().unwrap_or_default()
    }

    /// What the last worker remembered.
    pub(super) fn take_backoff(&self) -> Option<Backoff> {
        self.backoff().take().map(|backoff| *backoff)
    }

    /// For the next worker.
    pub(super) fn keep_backoff(&self, backoff: Option<Backoff>) {
        *self.backoff() = backoff.map(Box::new);
    }

    fn backoff(&self) -> MutexGuard<'_, Option<Box<Backoff>>> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, standing: Standing) -> bool {
        if let Some(endpoint) = self.endpoint() {
            endpoint.now_available(self.pool.is_available());
        }
        let before = self.state.load();
        let mut state = SubchannelState {
            connectivity: standing.connectivity,
            since: before.since,
            failure: standing.failure,
            unhealthy: standing.unhealthy,
        };
        let changed = state != **before;
        if changed {
            if state.connectivity != before.connectivity {
                state.since = Instant::now();
            }
            self.state.store(Arc::new(state));
        }
        changed
    }

    fn turn(&self) -> MutexGuard<'_, u64> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::{Shared, SubchannelState};
    use crate::endpoint::Endpoint;

    /// A channel may have ten thousand that it never calls.
    #[test]
    fn an_endpoint_that_is_not_connected_takes_little_memory() {
        // Each in an `Arc` of its own, with two counters.
        let each = [
            size_of::<Endpoint>(),
            size_of::<Shared>(),
            size_of::<SubchannelState>(),
        ];
        let all: usize = each.iter().map(|size| size + 2 * size_of::<usize>()).sum();
        assert!(all <= 600, "{all} bytes: {each:?}");
    }
}
