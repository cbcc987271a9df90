//! What goes around a policy, each a policy itself: some of the endpoints, two parts of them, or what the policy chose.

mod canary;
mod slow_start;
mod split;
mod subset;
mod zone;

use registry::Zone;

use super::Policy;
use crate::service_config::Balancing;
use canary::CanaryRoute;
pub(crate) use slow_start::Warming;
use slow_start::{Ramp, SlowStart};
use split::Split;
use subset::Subset;
use zone::ZoneRoute;

/// The policy with all that goes around it, for a caller in `zone`: the subset, then the canary's split, then the zone's,
/// then the policy, and slow start on what it chose.
pub(crate) fn build(balancing: &Balancing, zone: Option<&Zone>) -> Box<dyn Policy> {
    let chosen = || -> Box<dyn Policy> {
        let policy = balancing.policy.build();
        match &balancing.slow_start {
            Some(settings) => Box::new(SlowStart::new(Ramp::new(settings), policy)),
            None => policy,
        }
    };
    let zoned = || -> Box<dyn Policy> {
        match (&balancing.zone_preference, zone) {
            (Some(settings), Some(zone)) => Box::new(Split::new(
                ZoneRoute::new(zone.clone(), settings, balancing.policy.request_hash()),
                chosen(),
                chosen(),
            )),
            _ => chosen(),
        }
    };
    let split = match &balancing.canary {
        Some(settings) => Box::new(Split::new(CanaryRoute::new(settings), zoned(), zoned())),
        None => zoned(),
    };
    match &balancing.random_subsetting {
        Some(settings) => Box::new(Subset::new(settings.subset_size, split)),
        None => split,
    }
}

/// Whether both build the same policy: what goes on apart from it may differ.
pub(crate) fn are_alike(one: &Balancing, other: &Balancing) -> bool {
    one.policy == other.policy
        && one.random_subsetting == other.random_subsetting
        && one.canary == other.canary
        && one.zone_preference == other.zone_preference
        && one.slow_start == other.slow_start
}
