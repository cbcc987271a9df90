//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2016): who has more than its share of the calls
//! in flight, times a factor, is passed over, and the key goes to the next on the ring or table.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::endpoint::Endpoint;

/// `boundedLoad`: how far above its share an endpoint may be loaded; above 1, up to 100.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::policy) struct LoadFactor(f64);

impl<'de> Deserialize<'de> for LoadFactor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let factor = f64::deserialize(deserializer)?;
        if factor > 1.0 && factor <= 100.0 {
            Ok(Self(factor))
        } else {
            Err(D::Error::custom(format!(
                "{factor} is out of range; a factor above 1, up to 100"
            )))
        }
    }
}

/// The calls in flight at some endpoints, and how many each may have.
///
/// The sum over all is taken anew after a pick for every eighth endpoint. Picks in between can have raised the mean by no
/// more than an eighth of a call.
#[derive(Debug)]
pub(in crate::policy) struct Bound {
    factor: f64,
    weight: f64,
    picks: AtomicUsize,
    total: AtomicUsize,
}

impl Bound {
    /// For endpoints whose weights are `weight` together.
    pub(in crate::policy) fn new(LoadFactor(factor): LoadFactor, weight: f64) -> Self {
        Self {
            factor,
            weight,
            picks: AtomicUsize::new(0),
            total: AtomicUsize::new(0),
        }
    }

    /// Calls in flight at `endpoints`, all of them, for one pick.
    pub(in crate::policy) fn total(&self, endpoints: &[Arc<Endpoint>]) -> usize {
        let interval = (endpoints.len() / 8).max(1);
        if !self
            .picks
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(interval)
        {
            return self.total.load(Ordering::Relaxed);
        }
        let total = endpoints.iter().map(|endpoint| endpoint.in_flight()).sum();
        self.total.store(total, Ordering::Relaxed);
        total
    }

    /// Whether an endpoint of this weight, with so many calls in flight, takes one more when there are `total` at all.
    pub(in crate::policy) fn admits(&self, in_flight: usize, weight: f64, total: usize) -> bool {
        let share = weight / self.weight;
        let capacity = (self.factor * (total + 1) as f64 * share).ceil();
        ((in_flight + 1) as f64) <= capacity
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Bound, LoadFactor};

    #[test]
    fn a_factor_that_bounds_nothing_is_refused() {
        for factor in ["1.0", "0", "-2", "101", "\"2\""] {
            assert!(
                serde_json::from_str::<LoadFactor>(factor).is_err(),
                "{factor}"
            );
        }
        assert!(serde_json::from_str::<LoadFactor>("1.25").is_ok());
    }

    proptest! {
        /// However keys crowd together: nobody has more than its capacity, and somebody always has room.
        #[test]
        fn nobody_is_loaded_above_the_factor(
            weights in proptest::collection::vec(1_u32..=10, 1..20),
            keys in proptest::collection::vec(0_usize..4, 1..300),
        ) {
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let sum: f64 = weights.iter().sum();
            let bound = Bound::new(LoadFactor(1.25), sum);
            let mut loads = vec![0; weights.len()];
            for (total, key) in keys.into_iter().enumerate() {
                let admitted = (0..loads.len())
                    .map(|step| (key + step) % loads.len())
                    .find(|place| bound.admits(loads[*place], weights[*place], total));
                loads[admitted.expect("somebody has room")] += 1;
                for (load, weight) in loads.iter().zip(&weights) {
                    let capacity = 1.25 * (total + 1) as f64 * weight / sum;
                    prop_assert!((*load as f64) < capacity + 1.0 + 1e-6);
                }
            }
        }
    }
}
