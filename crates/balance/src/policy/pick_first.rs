//! All calls to one endpoint, until it goes (gRFC A61, A62): the first that can be connected, tried one after another.

use std::{collections::HashMap, sync::Arc};

use super::{Candidate, Pick, Picker, Plan, Policy, Queueing, failing};
use crate::{
    endpoint::ReadyEndpoint,
    subchannel::{ConnectivityState, SubchannelState},
};

pub(super) struct PickFirst {
    shuffle: bool,
    /// The candidates' serials in the order to try them; who stays keeps its place.
    order: Vec<u64>,
    /// The one that takes all calls.
    selected: Option<u64>,
    /// Whether an endpoint is wanted: from the start, and after a loss when a call comes.
    wanted: bool,
}

impl PickFirst {
    pub(super) fn new(shuffle: bool) -> Self {
        Self {
            shuffle,
            order: Vec::new(),
            selected: None,
            wanted: true,
        }
    }

    /// The places of the candidates, in the order to try them.
    fn places(&mut self, candidates: &[Candidate]) -> Vec<usize> {
        let mut places: HashMap<u64, usize> = candidates
            .iter()
            .enumerate()
            .map(|(place, c)| (c.serial, place))
            .collect();
        let mut ordered: Vec<usize> = self
            .order
            .iter()
            .filter_map(|serial| places.remove(serial))
            .collect();
        let mut new: Vec<usize> = places.into_values().collect();
        new.sort_unstable();
        if self.shuffle {
            fastrand::shuffle(&mut new);
        }
        ordered.append(&mut new);
        self.order = ordered
            .iter()
            .map(|place| candidates[*place].serial)
            .collect();
        ordered
    }
}

impl Policy for PickFirst {
    fn plan(&mut self, candidates: &[Candidate], called: bool) -> Plan {
        let places = self.places(candidates);
        let is_ready =
            |place: &usize| matches!(candidates[*place].state, SubchannelState::Ready(_));
        let current = places
            .iter()
            .find(|p| Some(candidates[**p].serial) == self.selected && is_ready(p));
        let chosen = current
            .or_else(|| places.iter().find(|p| is_ready(p)))
            .copied();
        if let Some(place) = chosen
            && let Some(endpoint) = candidates[place].ready()
        {
            self.selected = Some(candidates[place].serial);
            self.wanted = false;
            let rest = (0..candidates.len())
                .filter(|p| *p != place && !matches!(candidates[*p].state, SubchannelState::Idle));
            let picker = Arc::new(Selected(endpoint));
            return Plan {
                state: ConnectivityState::Ready,
                picker,
                connect: Vec::new(),
                rest: rest.collect(),
            };
        }
        self.selected = None;
        self.wanted |= called;
        let waits = |connect| Plan {
            state: ConnectivityState::Connecting,
            picker: Arc::new(Queueing),
            connect,
            rest: Vec::new(),
        };
        // What failed keeps trying by itself; the next is tried when all before it have failed.
        let next = places
            .iter()
            .find(|p| !matches!(candidates[**p].state, SubchannelState::TransientFailure(_)));
        match next {
            Some(place) if matches!(candidates[*place].state, SubchannelState::Connecting) => {
                waits(Vec::new())
            }
            Some(place) if self.wanted => waits(vec![*place]),
            Some(_) => Plan {
                state: ConnectivityState::Idle,
                ..waits(Vec::new())
            },
            None => Plan {
                state: ConnectivityState::TransientFailure,
                picker: failing(candidates),
                ..waits(Vec::new())
            },
        }
    }
}

struct Selected(ReadyEndpoint);

impl Picker for Selected {
    fn pick(&self) -> Pick<'_> {
        Pick::Ready(&self.0)
    }

    fn choices(&self) -> usize {
        1
    }
}
