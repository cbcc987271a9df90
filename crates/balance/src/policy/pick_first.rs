//! All calls to one endpoint, until it goes (gRFC A61, A62): the first that can be connected. The next is tried when those
//! before it have failed, or have had a quarter of a second.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::time::Instant;

use super::{CallInfo, Candidate, Endpoint, Endpoints, Pick, Picker, Plan, Policy};
use crate::{status::Status, subchannel::ConnectivityState};

/// A61's Connection Attempt Delay.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Settings {
    /// A registry lists its instances in the same order to everybody: unshuffled, all callers would sit on one.
    #[serde(default = "yes")]
    shuffle_address_list: bool,
}

fn yes() -> bool {
    true
}

pub(super) struct PickFirst {
    shuffle: bool,
    /// The endpoints' serials in the order to try them; who stays keeps its place.
    order: Vec<u64>,
    /// The one that takes all calls.
    selected: Option<u64>,
    /// Whether an endpoint is wanted: from the start, and after a loss when a call comes.
    wanted: bool,
    /// When the last one was asked to connect.
    attempted: Option<Instant>,
    /// Why nobody could be reached, until somebody is ready (gRFC A62).
    failing: Option<Status>,
}

impl PickFirst {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            shuffle: settings.shuffle_address_list,
            order: Vec::new(),
            selected: None,
            wanted: true,
            attempted: None,
            failing: None,
        }
    }

    /// The candidates, in the order to try them.
    fn ordered<'c>(&mut self, endpoints: &Endpoints<'c>) -> Vec<&'c Candidate> {
        let known: HashMap<u64, usize> = self.order.iter().copied().zip(0..).collect();
        let (mut ordered, mut new): (Vec<_>, Vec<_>) = endpoints
            .iter()
            .partition(|c| known.contains_key(&c.endpoint.serial()));
        ordered.sort_unstable_by_key(|c| known[&c.endpoint.serial()]);
        if self.shuffle {
            fastrand::shuffle(&mut new);
        }
        ordered.append(&mut new);
        self.order = ordered.iter().map(|c| c.endpoint.serial()).collect();
        ordered
    }
}

impl Policy for PickFirst {
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        let plan = self.next(endpoints);
        match plan.state {
            ConnectivityState::Ready => self.failing = None,
            ConnectivityState::TransientFailure => self.failing = Some(endpoints.failure()),
            _ => {}
        }
        match &self.failing {
            // Who has come meanwhile is connected, and changes the state only by being ready.
            Some(failure) => Plan {
                connect: plan.connect,
                rest: plan.rest,
                again: plan.again,
                ..Plan::failing(failure.clone())
            },
            None => plan,
        }
    }
}

impl PickFirst {
    fn next(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        let ordered = self.ordered(endpoints);
        let ready: Vec<&Arc<Endpoint>> = ordered
            .iter()
            .filter(|c| c.state == ConnectivityState::Ready)
            .map(|c| &c.endpoint)
            .collect();
        let current = ready.iter().find(|e| Some(e.serial()) == self.selected);
        if let Some(chosen) = current.or(ready.first()) {
            self.selected = Some(chosen.serial());
            self.wanted = false;
            self.attempted = None;
            let others = endpoints
                .iter()
                .filter(|c| c.endpoint.serial() != chosen.serial())
                .filter(|c| c.state != ConnectivityState::Idle)
                .map(|c| Arc::clone(&c.endpoint));
            let picker = Arc::new(Selected(Arc::clone(chosen)));
            return Plan::new(ConnectivityState::Ready, picker).resting(others.collect());
        }
        self.selected = None;
        // What failed keeps trying by itself.
        let is_connecting = ordered
            .iter()
            .any(|c| c.state == ConnectivityState::Connecting);
        let untried = ordered.iter().find(|c| c.state == ConnectivityState::Idle);
        self.wanted |= is_connecting || self.failing.is_some();
        match untried.map(|candidate| &candidate.endpoint) {
            None if is_connecting => Plan::connecting(),
            None => Plan::failing(endpoints.failure()),
            Some(next) if self.wanted => self.attempt(next, is_connecting),
            Some(next) => Plan::new(
                ConnectivityState::Idle,
                Arc::new(OnDemand(Arc::clone(next))),
            ),
        }
    }

    /// Connects the next one, unless others are connecting and have not had their time yet (gRFC A61).
    fn attempt(&mut self, next: &Arc<Endpoint>, others: bool) -> Plan {
        let now = Instant::now();
        if others {
            let waited = now.duration_since(*self.attempted.get_or_insert(now));
            if let Some(left) = ATTEMPT_DELAY
                .checked_sub(waited)
                .filter(|left| !left.is_zero())
            {
                return Plan::connecting().again_in(left);
            }
        }
        self.attempted = Some(now);
        Plan::connecting()
            .connecting_to(vec![Arc::clone(next)])
            .again_in(ATTEMPT_DELAY)
    }
}

struct Selected(Arc<Endpoint>);

impl Picker for Selected {
    fn pick(&self, _call: &CallInfo<'_>) -> Pick<'_> {
        Pick::Ready(&self.0)
    }
}

/// Connects when a call comes.
struct OnDemand(Arc<Endpoint>);

impl Picker for OnDemand {
    fn pick(&self, _call: &CallInfo<'_>) -> Pick<'_> {
        Pick::Connect(&self.0)
    }
}
