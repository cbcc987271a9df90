//! Zone preference with spill-over: calls stay in the channel's own zone while it can carry them, and what it is short of
//! goes to the others.

use registry::Zone;

use super::{
    slow_start::{draw, is_within},
    split::{Route, Router},
};
use crate::{
    policy::{CallInfo, ConnectivityState, Endpoint, Endpoints, hashing::RequestHash},
    service_config::ZonePreference,
};

/// When the own zone is preferred, and how much it can carry.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ZoneRule {
    /// How much more than its share an endpoint can carry: with 1.4, a zone carries all calls while five sevenths of it
    /// are healthy.
    overprovisioning: f64,
    /// With fewer healthy endpoints in the own zone, zones count for nothing.
    least_local: usize,
}

/// The endpoints of the own zone, or of all others: how many are healthy, and what they weigh.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Supply {
    healthy: usize,
    healthy_weight: f64,
    weight: f64,
}

impl ZoneRule {
    /// The share of calls, from 0 to 1, that stays in the own zone.
    fn local_share(&self, local: Supply, others: Supply) -> f64 {
        if local.healthy == 0 || others.healthy == 0 {
            return if local.healthy >= others.healthy {
                1.0
            } else {
                0.0
            };
        }
        if local.healthy < self.least_local {
            return local.healthy_weight / (local.healthy_weight + others.healthy_weight);
        }
        (local.healthy_weight / local.weight * self.overprovisioning).min(1.0)
    }
}

impl Supply {
    /// Who is idle is taken for healthy: a policy that connects when a call comes has not asked it.
    fn of(endpoints: &Endpoints<'_>) -> Self {
        let mut supply = Self::default();
        for candidate in endpoints.iter() {
            let weight = f64::from(candidate.endpoint.weight());
            supply.weight += weight;
            if matches!(
                candidate.state,
                ConnectivityState::Ready | ConnectivityState::Idle
            ) {
                supply.healthy += 1;
                supply.healthy_weight += weight;
            }
        }
        supply
    }
}

/// The endpoints of the own zone, which calls prefer.
pub(super) struct ZoneRoute {
    zone: Zone,
    rule: ZoneRule,
    request_hash: RequestHash,
}

impl ZoneRoute {
    /// The zone of a caller whose policy sends calls by `request_hash`.
    pub(super) fn new(zone: Zone, settings: &ZonePreference, request_hash: RequestHash) -> Self {
        Self {
            zone,
            request_hash,
            rule: ZoneRule {
                overprovisioning: settings.overprovisioning,
                least_local: settings.min_endpoints.get() as usize,
            },
        }
    }
}

impl Route for ZoneRoute {
    type Router = LocalShare;

    fn owns(&self, endpoint: &Endpoint) -> bool {
        endpoint.zone().as_ref() == Some(&self.zone)
    }

    fn why_none(&self, all_to_part: bool) -> String {
        let zone = &self.zone;
        if all_to_part {
            format!("in another zone: the channel's own, {zone}, can carry all calls")
        } else {
            format!("in the channel's own zone, {zone}, which can carry no calls")
        }
    }

    fn router(&self, part: &Endpoints<'_>, rest: &Endpoints<'_>) -> LocalShare {
        LocalShare {
            share: self.rule.local_share(Supply::of(part), Supply::of(rest)),
            request_hash: self.request_hash.clone(),
        }
    }
}

/// The share of the calls that stays in the own zone.
pub(super) struct LocalShare {
    /// From 0 to 1.
    share: f64,
    request_hash: RequestHash,
}

/// What keys are drawn for here.
const ZONE: u64 = u64::from_be_bytes(*b"the zone");

impl Router for LocalShare {
    fn takes_all(&self) -> Option<bool> {
        match self.share {
            ..=0.0 => Some(false),
            1.0.. => Some(true),
            _ => None,
        }
    }

    fn takes(&self, call: &CallInfo<'_>) -> bool {
        // The zone may have nobody else to offer.
        if call.is_repeated() {
            return fastrand::bool();
        }
        if self.share >= 1.0 {
            return true;
        }
        // A call with a key goes the same way each time, or its key would have two endpoints.
        let drawn = match self.request_hash.of(call) {
            Some(key) => draw(key, ZONE),
            None => fastrand::u64(..),
        };
        is_within(self.share, drawn)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Supply, ZoneRule};

    const RULE: ZoneRule = ZoneRule {
        overprovisioning: 1.4,
        least_local: 1,
    };

    /// So many of weight 1.
    fn supply(healthy: u32, all: u32) -> Supply {
        Supply {
            healthy: healthy as usize,
            healthy_weight: healthy.into(),
            weight: all.into(),
        }
    }

    #[test]
    fn all_calls_stay_while_five_sevenths_of_the_zone_are_healthy() {
        let share = |healthy| RULE.local_share(supply(healthy, 7), supply(9, 9));
        assert_eq!((share(7), share(6), share(5)), (1.0, 1.0, 1.0));
        assert!(
            (share(4) - 0.8).abs() < 1e-9,
            "a fifth is missing, and spills over"
        );
        assert!(share(0) < 1e-9);
    }

    #[test]
    fn nothing_spills_where_nobody_can_take_it() {
        assert!((RULE.local_share(supply(1, 7), supply(0, 9)) - 1.0).abs() < 1e-9);
        assert!((RULE.local_share(supply(0, 7), supply(0, 9)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn too_small_a_zone_is_one_among_all() {
        let rule = ZoneRule {
            least_local: 3,
            ..RULE
        };
        assert!((rule.local_share(supply(2, 2), supply(6, 6)) - 0.25).abs() < 1e-9);
        assert!((rule.local_share(supply(3, 3), supply(6, 6)) - 1.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn a_healthier_zone_never_keeps_less(all in 1_u32..50, others in 0_u32..50, least in 0_usize..5) {
            let rule = ZoneRule { least_local: least, ..RULE };
            let shares: Vec<f64> = (0..=all).map(|healthy| rule.local_share(supply(healthy, all), supply(others, 50))).collect();
            prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?}");
            let above = &shares[least.min(shares.len())..];
            prop_assert!(above.is_sorted(), "{above:?}");
        }
    }
}
