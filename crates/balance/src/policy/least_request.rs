//! Each call to the least loaded of a few endpoints, drawn by chance (gRFC A48).
//!
//! It differs from A48 in two things. Weights count: endpoints are drawn in proportion to them, and compared by calls in
//! flight for each unit of weight. And what is drawn twice is not compared with itself but with its neighbour, so that one
//! that hangs gets nothing more, however few there are.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{CallInfo, Endpoint, Endpoints, Pick, Picker, Plan, Policy, weighted::Weighted};
use crate::service_config::number;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Settings {
    #[serde(default)]
    choice_count: ChoiceCount,
}

/// How many are compared: at least 2; more than 10 count as 10.
#[derive(Debug, Clone, Copy)]
struct ChoiceCount(u32);

impl ChoiceCount {
    const MAX: u32 = 10;
}

impl Default for ChoiceCount {
    fn default() -> Self {
        Self(2)
    }
}

impl<'de> Deserialize<'de> for ChoiceCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match number::uint(deserializer)? {
            too_few @ 0..=1 => Err(D::Error::custom(format!(
                "{too_few} is no choice; 2 or more is"
            ))),
            count => Ok(Self(count.min(Self::MAX))),
        }
    }
}

pub(super) struct LeastRequest {
    choices: u32,
}

impl LeastRequest {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            choices: settings.choice_count.0,
        }
    }
}

impl Policy for LeastRequest {
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        endpoints.connect_all(|ready| {
            Arc::new(LeastRequestPicker {
                ready: Weighted::new(ready),
                choices: self.choices,
            })
        })
    }
}

struct LeastRequestPicker {
    ready: Weighted,
    choices: u32,
}

impl LeastRequestPicker {
    /// Whether `a` has fewer calls for each unit of its weight than `b`.
    fn is_less_loaded(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.ready.endpoint(a), self.ready.endpoint(b));
        let load =
            |one: &Endpoint, other: &Endpoint| one.in_flight() as u64 * u64::from(other.weight());
        load(a, b) < load(b, a)
    }
}

impl Picker for LeastRequestPicker {
    fn pick(&self, call: &CallInfo<'_>) -> Pick<'_> {
        let mut best = self.ready.draw();
        // Who has just died has the fewest calls of all: a call that avoids it is to get another one.
        let choices = if call.is_repeated() { 1 } else { self.choices };
        for _ in 1..choices {
            let other = self.ready.apart(best, self.ready.draw());
            if self.is_less_loaded(other, best) {
                best = other;
            }
        }
        Pick::Ready(self.ready.endpoint(best))
    }
}
