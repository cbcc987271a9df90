//! Each call to any endpoint that is ready, by chance: each alike, or in proportion to their weights.

use std::sync::Arc;

use serde::Deserialize;

use super::{CallInfo, Endpoints, Pick, Picker, Plan, Policy, weighted::Weighted};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {}

/// Heeds no weights.
pub(super) struct Random;

/// Heeds the weights.
pub(super) struct WeightedRandom;

impl Random {
    pub(super) fn new(_: &Settings) -> Self {
        Self
    }
}

impl WeightedRandom {
    pub(super) fn new(_: &Settings) -> Self {
        Self
    }
}

impl Policy for Random {
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        endpoints.connect_all(|ready| Arc::new(Even(Weighted::new(ready))))
    }
}

impl Policy for WeightedRandom {
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        endpoints.connect_all(|ready| Arc::new(ByWeight(Weighted::new(ready))))
    }
}

struct Even(Weighted);

impl Picker for Even {
    fn pick(&self, _call: &CallInfo<'_>) -> Pick<'_> {
        Pick::Ready(self.0.endpoint(self.0.draw_evenly()))
    }
}

struct ByWeight(Weighted);

impl Picker for ByWeight {
    fn pick(&self, _call: &CallInfo<'_>) -> Pick<'_> {
        Pick::Ready(self.0.endpoint(self.0.draw()))
    }
}
