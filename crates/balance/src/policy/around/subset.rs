//! Random subsetting (gRFC A68): each channel uses some of the endpoints, chosen by rendezvous hashing, so that few
//! connections change when endpoints come and go, and channels together use all endpoints alike.

use std::{collections::HashSet, num::NonZeroU32, sync::Arc};

use crate::policy::{
    Candidate, ConnectivityState, Endpoints, LoadReports, Plan, Policy, hashing::seeded_hash,
};

/// Shows a policy some of the endpoints only.
pub(super) struct Subset {
    size: usize,
    /// This channel's, at random: each chooses others.
    seed: u64,
    policy: Box<dyn Policy>,
}

impl Subset {
    pub(super) fn new(size: NonZeroU32, policy: Box<dyn Policy>) -> Self {
        Self {
            size: size.get() as usize,
            seed: fastrand::u64(..),
            policy,
        }
    }
}

impl Policy for Subset {
    /// Whoever is left out, and was not before, needs no connection any more.
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        let all: Vec<&Candidate> = endpoints.iter().collect();
        if all.len() <= self.size {
            return self.policy.plan(endpoints);
        }
        let instances: Vec<_> = all.iter().map(|c| c.endpoint.instance()).collect();
        let keys = instances.iter().map(|instance| instance.address().as_str());
        let places = subset(keys, self.size, self.seed);
        let chosen: Vec<&Candidate> = places.iter().map(|place| all[*place]).collect();
        let mut plan = self.policy.plan(&Endpoints::new(&chosen));
        let mut places = places.into_iter().peekable();
        for (place, candidate) in all.into_iter().enumerate() {
            let is_chosen = places.next_if_eq(&place).is_some();
            if !is_chosen && candidate.state != ConnectivityState::Idle {
                plan.rest.push(Arc::clone(&candidate.endpoint));
            }
        }
        let serials: HashSet<u64> = chosen.iter().map(|c| c.endpoint.serial()).collect();
        let size = self.size;
        plan.behind(move |endpoint| {
            let why = format!("not one of the {size} at random that this channel calls");
            (!serials.contains(&endpoint.serial())).then_some(why)
        })
    }

    fn load_reports(&self) -> Option<LoadReports> {
        self.policy.load_reports()
    }
}

/// The places of the `size` keys that a channel with this random `seed` uses, in their own order; all when there are no more.
fn subset<'k>(keys: impl Iterator<Item = &'k str>, size: usize, seed: u64) -> Vec<usize> {
    let mut hashes: Vec<(u64, usize)> = keys
        .enumerate()
        .map(|(place, key)| (seeded_hash(key.as_bytes(), seed), place))
        .collect();
    if size < hashes.len() {
        hashes.select_nth_unstable(size);
        hashes.truncate(size);
    }
    let mut places: Vec<usize> = hashes.into_iter().map(|(_, place)| place).collect();
    places.sort_unstable();
    places
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::subset;

    fn keys(count: usize) -> Vec<String> {
        (0..count)
            .map(|i| format!("10.0.{}.{}:80", i / 250, i % 250))
            .collect()
    }

    fn chosen(keys: &[String], size: usize, seed: u64) -> BTreeSet<&str> {
        let places = subset(keys.iter().map(String::as_str), size, seed);
        places.into_iter().map(|place| &*keys[place]).collect()
    }

    proptest! {
        #[test]
        fn one_endpoint_more_or_less_changes_one_of_the_subset_at_most(
            count in 1_usize..60, size in 1_usize..30, gone in any::<prop::sample::Index>(), seed in any::<u64>(),
        ) {
            let all = keys(count);
            let mut left = all.clone();
            left.remove(gone.index(count));
            let (before, after) = (chosen(&all, size, seed), chosen(&left, size, seed));
            prop_assert_eq!(before.len(), size.min(count));
            prop_assert!(before.difference(&after).count() <= 1);
            prop_assert!(after.difference(&before).count() <= 1);
        }
    }

    /// 1,000 channels of 20 each over 100 endpoints: 200 on the mean, with a standard deviation of 12.6.
    #[test]
    fn channels_together_use_all_endpoints_alike() {
        let keys = keys(100);
        let mut random = fastrand::Rng::with_seed(3);
        let mut used = vec![0_u32; 100];
        for _ in 0..1000 {
            let places = subset(keys.iter().map(String::as_str), 20, random.u64(..));
            for place in places {
                used[place] += 1;
            }
        }
        assert!(
            used.iter().all(|used| (150..=250).contains(used)),
            "{used:?}"
        );
    }
}
