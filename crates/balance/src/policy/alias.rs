//! A weighted random choice in constant time: Walker's alias method, its table filled in one sweep (Hübschle-Schneider and
//! Sanders, 2019).

use std::hint::select_unpredictable;

/// Chooses a place in proportion to its weight.
#[derive(Debug)]
pub(super) struct AliasTable {
    slots: Box<[Slot]>,
}

/// One n-th of the choices: `own`, in 2^32nds, are the slot's own, and the rest goes to `alias`.
#[derive(Debug, Clone, Copy)]
struct Slot {
    own: u32,
    alias: u32,
}

impl AliasTable {
    /// A table for at least one weight, all of them above 0.
    ///
    /// Two fingers go over the weights, one from each that is below the mean to the next, one from each that is not. What
    /// the one lacks the other fills up, and is one that lacks something itself when nothing is left above the mean.
    pub(super) fn new(weights: &[u32]) -> Self {
        // In units of which each slot holds `mean`, so that all is exact.
        let mean: u64 = weights.iter().copied().map(u64::from).sum();
        let unit = 2_f64.powi(32) / mean as f64;
        let share = |place: u32| u64::from(weights[place as usize]) * weights.len() as u64;
        let mut slots: Box<[Slot]> = (0..).take(weights.len()).map(Slot::whole).collect();
        let mut poor = (0..).take(slots.len()).filter(|place| share(*place) < mean);
        let mut rich = (0..)
            .take(slots.len())
            .filter(|place| share(*place) >= mean);
        let Some(mut giver) = rich.next() else {
            return Self { slots };
        };
        let mut left = share(giver);
        loop {
            let (place, own, alias) = if left > mean {
                let Some(place) = poor.next() else { break };
                (place, share(place), giver)
            } else {
                let Some(next) = rich.next() else { break };
                let place = std::mem::replace(&mut giver, next);
                (place, std::mem::replace(&mut left, share(next)), next)
            };
            left -= mean - own;
            slots[place as usize] = Slot {
                own: parts(own as f64 * unit),
                alias,
            };
        }
        Self { slots }
    }

    /// The place for one random number.
    pub(super) fn choose(&self, random: u64) -> usize {
        let place = place(random, self.slots.len());
        let slot = self.slots[place];
        select_unpredictable(low(random) < slot.own, place, slot.alias as usize)
    }
}

impl Slot {
    fn whole(place: u32) -> Self {
        Self {
            own: u32::MAX,
            alias: place,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float's cast saturates, and a slot is its own's but for a 2^32nd"
)]
fn parts(share: f64) -> u32 {
    share as u32
}

/// A place below `len`, at most 2^32, by the upper half of a random number: without a division.
pub(super) fn place(random: u64, len: usize) -> usize {
    (((random >> 32) * len as u64) >> 32) as usize
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn low(random: u64) -> u32 {
    random as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::AliasTable;

    impl AliasTable {
        /// The exact probability of each place.
        fn probabilities(&self) -> Vec<f64> {
            let mut found = vec![0.0; self.slots.len()];
            let each = 1.0 / self.slots.len() as f64;
            for (place, slot) in self.slots.iter().enumerate() {
                let own = f64::from(slot.own) / 2_f64.powi(32);
                found[place] += own * each;
                found[slot.alias as usize] += (1.0 - own) * each;
            }
            found
        }
    }

    proptest! {
        #[test]
        fn a_place_is_as_probable_as_its_weight_says(
            weights in proptest::collection::vec(1_u32..=1_000_000, 1..200),
        ) {
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for (found, weight) in AliasTable::new(&weights).probabilities().iter().zip(weights) {
                let share = f64::from(weight) / total;
                prop_assert!((found - share).abs() < 1e-9, "{found} for {share}");
            }
        }
    }
}
