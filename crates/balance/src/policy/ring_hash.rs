//! Calls with equal keys to the same endpoint, by consistent hashing on a ring (gRFC A42, A61 and A76).
//!
//! Endpoints are connected when a call falls on them, and only then. Their places on the ring are those that any other
//! gRPC gives them with the same settings.

use std::sync::{Arc, atomic::AtomicBool};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    ConnectivityState, Endpoints, Plan, Policy,
    hashing::{
        RequestHash,
        bound::{Bound, LoadFactor},
        kept::Kept,
        picker::{HashPicker, Walk},
        ring::{Ring, RingSize},
    },
};
use crate::service_config::number;

#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Wire")]
pub(super) struct Settings(Wire);

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    #[serde(default = "least_entries")]
    min_ring_size: Entries,
    max_ring_size: Option<Entries>,
    #[serde(default)]
    request_hash_header: RequestHash,
    bounded_load: Option<LoadFactor>,
}

/// A number of entries that a ring may have.
#[derive(Debug, Clone, Copy)]
struct Entries(u32);

fn least_entries() -> Entries {
    Entries(1024)
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = number::uint(deserializer)?;
        if RingSize::RANGE.contains(&entries) {
            return Ok(Self(entries));
        }
        let (least, most) = RingSize::RANGE.into_inner();
        Err(D::Error::custom(format!(
            "{entries} entries are out of range; a ring has {least} to {most}"
        )))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("minRingSize is {min}, more than maxRingSize, which is {max}")]
struct SmallerMaximum {
    min: u32,
    max: u32,
}

impl TryFrom<Wire> for Settings {
    type Error = SmallerMaximum;

    fn try_from(wire: Wire) -> Result<Self, SmallerMaximum> {
        match (wire.min_ring_size, wire.max_ring_size) {
            (Entries(min), Some(Entries(max))) if min > max => Err(SmallerMaximum { min, max }),
            _ => Ok(Self(wire)),
        }
    }
}

impl Wire {
    /// A42 has 4096 entries at most, and a client that needs more is to say so. But a ring of many endpoints with fewer
    /// entries would leave some out, and a small number next to a large one is what the user meant: so where no maximum is
    /// set, both raise it.
    fn size(&self, endpoints: usize) -> RingSize {
        const A42_MAX: u32 = 4096;
        const EACH: usize = 16;
        let roomy = u32::try_from(endpoints * EACH)
            .unwrap_or(u32::MAX)
            .min(*RingSize::RANGE.end());
        let min = self.min_ring_size.0;
        RingSize {
            min,
            max: self
                .max_ring_size
                .map_or(A42_MAX.max(roomy).max(min), |max| max.0),
        }
    }
}

pub(super) struct RingHash {
    settings: Wire,
    ring: Kept<Ring>,
}

impl RingHash {
    pub(super) fn new(Settings(settings): &Settings) -> Self {
        Self {
            settings: settings.clone(),
            ring: Kept::default(),
        }
    }
}

impl Policy for RingHash {
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        if endpoints.is_empty() {
            return Plan::failing(endpoints.failure());
        }
        let all: Vec<_> = endpoints
            .iter()
            .map(|candidate| Arc::clone(&candidate.endpoint))
            .collect();
        let states: Vec<_> = endpoints.iter().map(|candidate| candidate.state).collect();
        let state = aggregated(&states);
        let connect = unasked(state, &states).map(|place| Arc::clone(&all[place]));
        let weight = all
            .iter()
            .map(|endpoint| f64::from(endpoint.weight()))
            .sum();
        let settings = &self.settings;
        let picker = HashPicker {
            walk: self
                .ring
                .of(&all, |keys| Ring::new(keys, settings.size(keys.len()))),
            connecting: AtomicBool::new(states.contains(&ConnectivityState::Connecting)),
            endpoints: all,
            states,
            request: settings.request_hash_header.clone(),
            bound: settings
                .bounded_load
                .map(|factor| Bound::new(factor, weight)),
            failure: endpoints.failure(),
        };
        Plan::new(state, Arc::new(picker)).connecting_to(connect.into_iter().collect())
    }
}

impl Walk for Ring {
    fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        Self::walk(self, hash)
    }
}

/// gRFC A42, "Aggregated Connectivity State": as most endpoints are never connected, two that fail stand for all.
fn aggregated(states: &[ConnectivityState]) -> ConnectivityState {
    use ConnectivityState::{Connecting, Idle, Ready, TransientFailure};
    let count = |state| states.iter().filter(|other| **other == state).count();
    let failing = count(TransientFailure);
    if count(Ready) > 0 {
        Ready
    } else if failing >= 2 {
        TransientFailure
    } else if count(Connecting) > 0 || (failing == 1 && states.len() > 1) {
        Connecting
    } else if count(Idle) > 0 {
        Idle
    } else {
        TransientFailure
    }
}

/// Whom to connect without a call that asks for it (gRFC A61): one, while none is ready, something fails and nobody is
/// connecting. Else a channel whose calls go elsewhere would never learn that its endpoints are back.
fn unasked(state: ConnectivityState, states: &[ConnectivityState]) -> Option<usize> {
    let is_waiting = matches!(
        state,
        ConnectivityState::Connecting | ConnectivityState::TransientFailure
    );
    if !is_waiting || states.contains(&ConnectivityState::Connecting) {
        return None;
    }
    states
        .iter()
        .position(|state| *state == ConnectivityState::Idle)
}
