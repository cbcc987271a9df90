//! From a call's hash to an endpoint that takes the call: the walk along a ring or a table.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{RequestHash, bound::Bound};
use crate::{
    endpoint::Endpoint,
    policy::{CallInfo, Pick, Picker, around::Warming},
    status::Status,
    subchannel::ConnectivityState,
};

/// Where keys fall, and who comes after.
pub(in crate::policy) trait Walk: Send + Sync {
    /// The places of endpoints from a hash on, each at least once, and none without end.
    fn walk(&self, hash: u64) -> impl Iterator<Item = usize>;
}

/// How many entries are looked at for a better endpoint than one that is ready, but avoided or full.
const SEARCHED: usize = 256;

pub(in crate::policy) struct HashPicker<W> {
    pub(in crate::policy) walk: Arc<W>,
    /// All endpoints, in the places that the walk speaks of.
    pub(in crate::policy) endpoints: Vec<Arc<Endpoint>>,
    /// Their states. One that is failing is passed over, one that is idle is connected when a call falls on it.
    pub(in crate::policy) states: Vec<ConnectivityState>,
    pub(in crate::policy) request: RequestHash,
    pub(in crate::policy) bound: Option<Bound>,
    /// Why calls fail when all endpoints do.
    pub(in crate::policy) failure: Status,
    /// Whether some endpoint is connecting already, for the sake of calls without a key.
    pub(in crate::policy) connecting: AtomicBool,
}

impl<W: Walk> Picker for HashPicker<W> {
    fn pick(&self, call: &CallInfo<'_>) -> Pick<'_> {
        match self.request.of(call) {
            Some(hash) => self.by_key(call, hash),
            None => self.by_chance(call, fastrand::u64(..)),
        }
    }

    fn passes_over(&self) -> bool {
        true
    }
}

impl<W: Walk> HashPicker<W> {
    /// gRFC A61, "Ring Hash": the first that does not fail. Where that one is ready, but the call avoids it or it is full,
    /// the next one that is ready takes the call.
    fn by_key(&self, call: &CallInfo<'_>, hash: u64) -> Pick<'_> {
        let total = self.total();
        for place in self.walk.walk(hash) {
            let endpoint = &self.endpoints[place];
            match self.states[place] {
                ConnectivityState::Ready if self.suits(call, place, hash, total) => {
                    return Pick::Ready(endpoint);
                }
                ConnectivityState::Ready => {
                    return Pick::Ready(self.better(call, hash, total).unwrap_or(endpoint));
                }
                ConnectivityState::Idle => return Pick::Connect(endpoint),
                ConnectivityState::Connecting => return Pick::Queue,
                ConnectivityState::TransientFailure | ConnectivityState::Shutdown => {}
            }
        }
        Pick::Fail(&self.failure)
    }

    /// gRFC A76: the first that is ready; one that is idle on the way is connected, when no other is connecting.
    fn by_chance(&self, call: &CallInfo<'_>, hash: u64) -> Pick<'_> {
        let total = self.total();
        for place in self.walk.walk(hash) {
            let endpoint = &self.endpoints[place];
            match self.states[place] {
                ConnectivityState::Ready if self.suits(call, place, hash, total) => {
                    return Pick::Ready(endpoint);
                }
                ConnectivityState::Ready => {
                    return Pick::Ready(self.better(call, hash, total).unwrap_or(endpoint));
                }
                ConnectivityState::Idle if !self.connecting.swap(true, Ordering::Relaxed) => {
                    endpoint.subchannel().connect();
                }
                _ => {}
            }
        }
        if self.connecting.load(Ordering::Relaxed) {
            Pick::Queue
        } else {
            Pick::Fail(&self.failure)
        }
    }

    /// The next that is ready and suits the call; who is idle is not waited for.
    fn better(&self, call: &CallInfo<'_>, hash: u64, total: usize) -> Option<&Arc<Endpoint>> {
        let suits = |place: &usize| {
            self.states[*place] == ConnectivityState::Ready && self.suits(call, *place, hash, total)
        };
        let found = self.walk.walk(hash).take(SEARCHED).find(suits);
        found.map(|place| &self.endpoints[place])
    }

    fn suits(&self, call: &CallInfo<'_>, place: usize, hash: u64, total: usize) -> bool {
        let endpoint = &self.endpoints[place];
        let is_full =
            |bound: &Bound| !bound.admits(endpoint.in_flight(), endpoint.weight().into(), total);
        let is_cold = |warming: &Warming| warming.is_too_cold(endpoint, hash);
        !call.avoids(endpoint)
            && !call.warming.is_some_and(is_cold)
            && !self.bound.as_ref().is_some_and(is_full)
    }

    fn total(&self) -> usize {
        self.bound
            .as_ref()
            .map_or(0, |bound| bound.total(&self.endpoints))
    }
}
