//! Each call to the next endpoint that is ready; all endpoints are kept connected.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Candidate, Pick, Picker, Plan, Policy, Queueing, failing};
use crate::{
    endpoint::ReadyEndpoint,
    subchannel::{ConnectivityState, SubchannelState},
};

pub(super) struct RoundRobin {
    /// Survives the pickers, so that a rebuild does not start over at the first endpoint.
    next: Arc<AtomicUsize>,
}

impl RoundRobin {
    /// Begins anywhere: channels that live for one call would otherwise all call the first.
    pub(super) fn new() -> Self {
        Self {
            next: Arc::new(AtomicUsize::new(fastrand::usize(..))),
        }
    }
}

impl Policy for RoundRobin {
    fn plan(&mut self, candidates: &[Candidate], _called: bool) -> Plan {
        let mut ready = Vec::new();
        let mut connect = Vec::new();
        let mut connecting = false;
        for (place, candidate) in candidates.iter().enumerate() {
            match &candidate.state {
                SubchannelState::Ready(_) => ready.extend(candidate.ready()),
                SubchannelState::Idle => connect.push(place),
                SubchannelState::Connecting => connecting = true,
                SubchannelState::TransientFailure(_) => {}
            }
        }
        let (state, picker): (_, Arc<dyn Picker>) = if !ready.is_empty() {
            (
                ConnectivityState::Ready,
                Arc::new(RoundRobinPicker {
                    ready,
                    next: Arc::clone(&self.next),
                }),
            )
        } else if connecting || !connect.is_empty() {
            (ConnectivityState::Connecting, Arc::new(Queueing))
        } else {
            (ConnectivityState::TransientFailure, failing(candidates))
        };
        Plan {
            state,
            picker,
            connect,
            rest: Vec::new(),
        }
    }
}

struct RoundRobinPicker {
    ready: Vec<ReadyEndpoint>,
    next: Arc<AtomicUsize>,
}

impl Picker for RoundRobinPicker {
    fn pick(&self) -> Pick<'_> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        Pick::Ready(&self.ready[turn % self.ready.len()])
    }

    fn choices(&self) -> usize {
        self.ready.len()
    }
}
