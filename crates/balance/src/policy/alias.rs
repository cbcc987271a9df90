//! A weighted random choice in constant time: Walker's alias method, its table filled as Vose does it.

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
    /// A table for at least one weight. What is no positive number is never chosen, unless nothing else is there.
    pub(super) fn new(weights: &[f64]) -> Self {
        let positive = |weight: f64| {
            if weight.is_normal() {
                weight.max(0.0)
            } else {
                0.0
            }
        };
        let total: f64 = weights.iter().copied().map(positive).sum();
        if !(total > 0.0 && total.is_finite()) {
            return Self::new(&vec![1.0; weights.len()]);
        }
        let scale = weights.len() as f64 / total;
        let mut shares: Vec<f64> = weights
            .iter()
            .map(|weight| positive(*weight) * scale)
            .collect();
        let mut slots: Box<[Slot]> = (0..).take(shares.len()).map(Slot::whole).collect();
        let (mut short, mut long): (Vec<u32>, Vec<u32>) = (0..)
            .take(shares.len())
            .partition(|place| shares[*place as usize] < 1.0);
        while let (Some(poor), Some(rich)) = (short.pop(), long.last().copied()) {
            let missing = 1.0 - shares[poor as usize];
            slots[poor as usize] = Slot {
                own: parts(shares[poor as usize]),
                alias: rich,
            };
            shares[rich as usize] -= missing;
            if shares[rich as usize] < 1.0 {
                short.extend(long.pop());
            }
        }
        Self { slots }
    }

    /// The place for one random number.
    pub(super) fn choose(&self, random: u64) -> usize {
        let place = place(random, self.slots.len());
        let slot = self.slots[place];
        if low(random) < slot.own {
            place
        } else {
            slot.alias as usize
        }
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

/// A share below one in 2^32nds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is in 0..1"
)]
fn parts(share: f64) -> u32 {
    (share * 2_f64.powi(32)) as u32
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
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let total: f64 = weights.iter().sum();
            for (found, weight) in AliasTable::new(&weights).probabilities().iter().zip(&weights) {
                prop_assert!((found - weight / total).abs() < 1e-9, "{found} for {weight} of {total}");
            }
        }
    }

    #[test]
    fn what_is_no_weight_is_chosen_only_where_nothing_else_is() {
        let table = AliasTable::new(&[f64::NAN, 0.0, 3.0, -1.0, f64::INFINITY]);
        let mut random = fastrand::Rng::with_seed(1);
        assert!((0..1000).all(|_| table.choose(random.u64(..)) == 2));
        let table = AliasTable::new(&[0.0, f64::NAN]);
        assert_eq!((table.choose(0), table.choose(u64::MAX)), (0, 1));
    }
}
