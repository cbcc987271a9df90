//! All calls to one endpoint, until it goes (gRFC A61, A62): the first that can be connected, tried one after another.

use std::{collections::HashMap, sync::Arc};

use serde::Deserialize;

use super::{CallInfo, Candidate, Endpoint, Endpoints, Pick, Picker, Plan, Policy};
use crate::subchannel::ConnectivityState;

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
}

impl PickFirst {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            shuffle: settings.shuffle_address_list,
            order: Vec::new(),
            selected: None,
            wanted: true,
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
        let ordered = self.ordered(endpoints);
        let ready = || {
            let mut all = ordered.iter();
            all.by_ref()
                .filter(|c| c.state == ConnectivityState::Ready)
                .map(|c| &c.endpoint)
                .collect::<Vec<_>>()
        };
        let ready = ready();
        let current = ready.iter().find(|e| Some(e.serial()) == self.selected);
        if let Some(chosen) = current.or(ready.first()) {
            self.selected = Some(chosen.serial());
            self.wanted = false;
            let others = endpoints
                .iter()
                .filter(|c| c.endpoint.serial() != chosen.serial())
                .filter(|c| c.state != ConnectivityState::Idle)
                .map(|c| Arc::clone(&c.endpoint));
            let picker = Arc::new(Selected(Arc::clone(chosen)));
            return Plan::new(ConnectivityState::Ready, picker).resting(others.collect());
        }
        self.selected = None;
        // What failed keeps trying by itself; the next is tried when all before it have failed.
        let next = ordered
            .iter()
            .find(|c| c.state != ConnectivityState::TransientFailure);
        match next {
            None => Plan::failing(endpoints.failure()),
            Some(next) if next.state != ConnectivityState::Idle => {
                self.wanted = true;
                Plan::connecting()
            }
            Some(next) if self.wanted => {
                Plan::connecting().connecting_to(vec![Arc::clone(&next.endpoint)])
            }
            Some(next) => Plan::new(
                ConnectivityState::Idle,
                Arc::new(OnDemand(Arc::clone(&next.endpoint))),
            ),
        }
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
