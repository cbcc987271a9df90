//! Each call to the next endpoint that is ready; all endpoints are kept connected.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde::Deserialize;

use super::{CallInfo, Endpoint, Endpoints, Pick, Picker, Plan, Policy};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {}

pub(super) struct RoundRobin {
    /// Survives the pickers, so that a rebuild does not start over at the first endpoint.
    next: Arc<AtomicUsize>,
}

impl RoundRobin {
    /// Begins anywhere: channels that live for one call would otherwise all call the first.
    pub(super) fn new(_: &Settings) -> Self {
        Self {
            next: Arc::new(AtomicUsize::new(fastrand::usize(..))),
        }
    }
}

impl Policy for RoundRobin {
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        endpoints.connect_all(|ready| {
            Arc::new(RoundRobinPicker {
                ready,
                next: Arc::clone(&self.next),
            })
        })
    }
}

struct RoundRobinPicker {
    ready: Arc<[Arc<Endpoint>]>,
    next: Arc<AtomicUsize>,
}

impl Picker for RoundRobinPicker {
    fn pick(&self, _call: &CallInfo<'_>) -> Pick<'_> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        Pick::Ready(&self.ready[turn % self.ready.len()])
    }
}
