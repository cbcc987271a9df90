//! Slow start: a new endpoint takes some of its share of the calls, and more and more of it, while its caches fill and its
//! code gets warm.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    policy::{
        CallInfo, ConnectivityState, Endpoint, Endpoints, LoadReports, Pick, Picker, Plan, Policy,
        hashing::hash,
    },
    service_config,
};

/// How a new endpoint's share grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ramp {
    window: Duration,
    /// Above 1 the share grows faster at first, below 1 slower.
    aggression: f64,
    least: f64,
}

impl Ramp {
    pub(super) fn new(settings: &service_config::SlowStart) -> Self {
        Self {
            window: settings.window,
            aggression: settings.aggression,
            least: settings.min_weight_percent.into(),
        }
    }

    /// How much of its share an endpoint takes at that age, up to 1.
    fn warmth(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let done = age.as_secs_f64() / self.window.as_secs_f64();
        done.powf(1.0 / self.aggression).max(self.least)
    }
}

/// Whether `draw`, evenly distributed, is within that share of all draws.
pub(super) fn is_within(share: f64, draw: u64) -> bool {
    (draw as f64) < share * 2_f64.powi(64)
}

/// The draw of a key for one purpose, such as an endpoint: always the same, so that a key that has moved to a warming
/// endpoint stays there, and another than the key itself, by which a policy goes that hashes.
pub(super) fn draw(key: u64, purpose: u64) -> u64 {
    // SplitMix64's finalizer (Steele, Lea, Flood, 2014): each bit of what goes in changes half of those that come out.
    let mixed = key ^ purpose.rotate_left(32);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Gives back some of what a policy gives to endpoints that are new to this channel.
pub(super) struct SlowStart {
    ramp: Ramp,
    policy: Box<dyn Policy>,
    /// Since when each endpoint has been ready, by serial; to lose a connection makes nobody cold.
    since: HashMap<u64, Instant>,
}

impl SlowStart {
    pub(super) fn new(ramp: Ramp, policy: Box<dyn Policy>) -> Self {
        Self {
            ramp,
            policy,
            since: HashMap::new(),
        }
    }

    /// Those that warm up among the ready ones, if there are any.
    fn warming(&mut self, endpoints: &Endpoints<'_>, now: Instant) -> Option<Warming> {
        let mut known = std::mem::take(&mut self.since);
        let (mut cold, mut oldest) = (HashMap::new(), now);
        for candidate in endpoints.iter() {
            let serial = candidate.endpoint.serial();
            let since = match known.remove(&serial) {
                Some(since) => since,
                None if candidate.state == ConnectivityState::Ready => now,
                None => continue,
            };
            self.since.insert(serial, since);
            if candidate.state == ConnectivityState::Ready {
                oldest = oldest.min(since);
                if now.duration_since(since) < self.ramp.window {
                    let place = hash(candidate.endpoint.instance().address().as_str().as_bytes());
                    cold.insert(serial, Cold { since, place });
                }
            }
        }
        (!cold.is_empty()).then_some(Warming {
            ramp: self.ramp,
            cold,
            oldest,
        })
    }
}

impl Policy for SlowStart {
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        let now = Instant::now();
        let plan = self.policy.plan(endpoints);
        let Some(warming) = self.warming(endpoints, now) else {
            return plan;
        };
        let next = warming.next_warm(now);
        let again = plan.again.map_or(next, |again| again.min(next));
        Plan {
            picker: Arc::new(SlowStartPicker {
                picker: plan.picker,
                warming,
            }),
            again: Some(again),
            ..plan
        }
    }

    fn load_reports(&self) -> Option<LoadReports> {
        self.policy.load_reports()
    }
}

/// The endpoints that warm up.
#[derive(Debug)]
pub(crate) struct Warming {
    ramp: Ramp,
    /// By serial.
    cold: HashMap<u64, Cold>,
    /// Since when the warmest endpoint has been ready: where all are new, they are all alike.
    oldest: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Cold {
    since: Instant,
    /// The same for all channels, so that a key moves on all of them at about the same time.
    place: u64,
}

impl Warming {
    /// Whether the endpoint is too cold for a call of that hash: always the same for a key, so that keys move to it one by
    /// one, and stay. Calls without one have a random hash.
    pub(in crate::policy) fn is_too_cold(&self, endpoint: &Endpoint, hash: u64) -> bool {
        let Some(cold) = self.cold.get(&endpoint.serial()) else {
            return false;
        };
        let now = Instant::now();
        let warmth = |since| self.ramp.warmth(now.duration_since(since));
        let relative = warmth(cold.since) / warmth(self.oldest);
        relative < 1.0 && !is_within(relative, draw(hash, cold.place))
    }

    /// How long until the first of them is warm.
    fn next_warm(&self, now: Instant) -> Duration {
        let left = |cold: &Cold| (cold.since + self.ramp.window).duration_since(now);
        self.cold.values().map(left).min().unwrap_or_default()
    }
}

/// How often a policy is asked for another endpoint than one that is too cold.
const TRIES: usize = 8;

struct SlowStartPicker {
    picker: Arc<dyn Picker>,
    warming: Warming,
}

impl Picker for SlowStartPicker {
    fn pick(&self, call: &CallInfo<'_>) -> Pick<'_> {
        let mut call = CallInfo {
            warming: Some(&self.warming),
            ..*call
        };
        if self.picker.passes_over() {
            return self.picker.pick(&call);
        }
        for _ in 1..TRIES {
            match self.picker.pick(&call) {
                Pick::Ready(endpoint) if self.warming.is_too_cold(endpoint, fastrand::u64(..)) => {
                    call.repeated = true;
                }
                pick => return pick,
            }
        }
        self.picker.pick(&call)
    }

    fn passes_over(&self) -> bool {
        self.picker.passes_over()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Ramp, draw, is_within};

    const RAMP: Ramp = Ramp {
        window: Duration::from_mins(1),
        aggression: 1.0,
        least: 0.1,
    };

    #[test]
    fn the_ramp_is_even_from_a_tenth_to_the_whole() {
        let at = |seconds| RAMP.warmth(Duration::from_secs(seconds));
        assert_eq!(
            (at(0), at(3), at(30), at(60), at(1000)),
            (0.1, 0.1, 0.5, 1.0, 1.0)
        );
    }

    #[test]
    fn aggression_bends_the_ramp() {
        let ramp = Ramp {
            aggression: 2.0,
            ..RAMP
        };
        assert!(
            (ramp.warmth(RAMP.window / 4) - 0.5).abs() < 1e-9,
            "the root of a quarter"
        );
    }

    proptest! {
        #[test]
        fn a_key_that_has_moved_stays(
            key in any::<u64>(), endpoint in any::<u64>(), ages in proptest::collection::vec(0_u64..70, 2..20),
        ) {
            let mut ages = ages;
            ages.sort_unstable();
            let stays = |age| is_within(RAMP.warmth(Duration::from_secs(age)), draw(key, endpoint));
            let stays: Vec<bool> = ages.into_iter().map(stays).collect();
            prop_assert!(stays.is_sorted(), "{stays:?}");
        }
    }

    #[test]
    fn as_many_keys_move_as_the_warmth_says() {
        for warmth in [0.1, 0.5, 0.9] {
            let staying = (0..10_000)
                .filter(|key| is_within(warmth, draw(*key, 42)))
                .count();
            assert!(
                (staying as f64 / 10_000.0 - warmth).abs() < 0.02,
                "{staying} at {warmth}"
            );
        }
    }
}
