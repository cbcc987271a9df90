//! Calls with equal keys to the same endpoint, by Maglev's table: shares are nearly exact, at the price of a few more keys
//! that move when an endpoint comes or goes. All endpoints are kept connected.
//!
//! The table is of all endpoints, whatever their states: the keys of one that is not ready go to the owners of the slots
//! that follow, and come back with it; no other key moves.

use std::sync::{Arc, atomic::AtomicBool};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    ConnectivityState, Endpoints, Plan, Policy,
    hashing::{
        RequestHash,
        bound::{Bound, LoadFactor},
        kept::Kept,
        picker::{HashPicker, Walk},
        table::{self, Table},
    },
};
use crate::service_config::number;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Settings {
    #[serde(default)]
    table_size: Slots,
    #[serde(default)]
    request_hash_header: RequestHash,
    bounded_load: Option<LoadFactor>,
}

/// A number of slots that a table may have.
#[derive(Debug, Clone, Copy)]
struct Slots(u32);

impl Default for Slots {
    fn default() -> Self {
        Self(table::DEFAULT_SIZE)
    }
}

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let slots = number::uint(deserializer)?;
        if slots <= table::MAX_SIZE && table::is_prime(slots) {
            return Ok(Self(slots));
        }
        Err(D::Error::custom(format!(
            "{slots} slots cannot be filled; take a prime up to {}, as 65537",
            table::MAX_SIZE
        )))
    }
}

pub(super) struct Maglev {
    settings: Settings,
    table: Kept<Table>,
}

impl Maglev {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            table: Kept::default(),
        }
    }
}

impl Policy for Maglev {
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        endpoints.connect_all(|ready| {
            let all: Vec<_> = endpoints
                .iter()
                .map(|candidate| Arc::clone(&candidate.endpoint))
                .collect();
            let settings = &self.settings;
            let table = self
                .table
                .of(&all, |keys| Table::new(keys, settings.table_size.0));
            let weight = ready
                .iter()
                .map(|endpoint| f64::from(endpoint.weight()))
                .sum();
            Arc::new(HashPicker {
                walk: table,
                connecting: AtomicBool::new(true),
                endpoints: all,
                states: endpoints
                    .iter()
                    .map(|candidate| passed_over(candidate.state))
                    .collect(),
                request: settings.request_hash_header.clone(),
                bound: settings
                    .bounded_load
                    .map(|factor| Bound::new(factor, weight)),
                failure: endpoints.failure(),
            })
        })
    }
}

/// Whoever is not ready gets no calls: it is connected, or cannot be, without them.
fn passed_over(state: ConnectivityState) -> ConnectivityState {
    match state {
        ConnectivityState::Ready => ConnectivityState::Ready,
        _ => ConnectivityState::TransientFailure,
    }
}

impl Walk for Table {
    fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        Self::walk(self, hash)
    }
}
