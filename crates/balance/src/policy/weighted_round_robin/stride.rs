//! Which of several weighted places has the next turn: gRFC A58's scheduler, as a static stride schedule.
//!
//! Turns go round over the entries. In each round an entry's position moves on by its stride, and the entry takes its turn
//! when the position wraps around; else the turn passes to the next. So an entry of weight `w` takes `w` of each
//! `max(w)` rounds, evenly spread, and all that is shared is one counter.
//!
//! A place that outweighs the mean is entered several times, with equal parts of its weight. There are then at most twice
//! as many entries as places, and no more than two turns a pick are passed on average, however uneven the weights.

/// A fraction of 2^32 near the golden ratio: multiples of it lie evenly on the circle.
const GOLDEN: u32 = 0x9E37_79B9;

/// The schedule of some weights.
#[derive(Debug)]
pub(super) struct Strides {
    entries: Box<[Entry]>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// How far the position moves in a round, in 2^32nds, less one: what moves all the way round has to fit.
    last: u32,
    place: u32,
}

impl Strides {
    /// A schedule for at least one weight, all of them positive numbers.
    pub(super) fn new(weights: &[f64]) -> Self {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let copies = |weight: f64| (weight / mean).ceil().max(1.0);
        let largest = weights
            .iter()
            .map(|weight| weight / copies(*weight))
            .fold(0.0, f64::max);
        let mut entries = Vec::with_capacity(2 * weights.len());
        for (place, weight) in (0..).zip(weights) {
            let copies = copies(*weight);
            let last = last(weight / copies / largest);
            entries.extend(std::iter::repeat_n(Entry { last, place }, whole(copies)));
        }
        Self {
            entries: if entries.len() == weights.len() {
                entries.into()
            } else {
                spread(&entries)
            },
        }
    }

    /// The place that has the next turn; `next` counts turns, and may be shared among threads.
    pub(super) fn pick(&self, mut next: impl FnMut() -> u64) -> usize {
        let len = self.entries.len() as u64;
        loop {
            let turn = next();
            let (round, index) = (low(turn / len), low(turn % len));
            let entry = self.entries[index as usize];
            // Entries begin at different positions, or all would pass and all would take their turns together.
            let position = round
                .wrapping_mul(entry.last.wrapping_add(1))
                .wrapping_add(index.wrapping_mul(GOLDEN));
            if position <= entry.last {
                return entry.place as usize;
            }
        }
    }
}

/// The entries in an order that keeps equal neighbours apart: steps of the golden ratio visit each stretch evenly.
fn spread(entries: &[Entry]) -> Box<[Entry]> {
    let len = entries.len();
    let mut step = (len as u64 * u64::from(GOLDEN)) >> 32;
    while gcd(step, len as u64) != 1 {
        step += 1;
    }
    (0..len as u64)
        .map(|index| entries[whole_index(index * step % len as u64)])
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[expect(clippy::cast_possible_truncation, reason = "an index of a slice")]
fn whole_index(index: u64) -> usize {
    index as usize
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most the number of weights"
)]
fn whole(copies: f64) -> usize {
    copies as usize
}

/// A part of the largest weight in 2^32nds, less one; never below one, so that nobody is left out for ever.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float's cast saturates"
)]
fn last(part: f64) -> u32 {
    ((part * 2_f64.powi(32)) as u64).saturating_sub(1) as u32
}

/// A count on the circle of 2^32.
#[expect(
    clippy::cast_possible_truncation,
    reason = "positions are counted modulo 2^32"
)]
fn low(count: u64) -> u32 {
    count as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Strides;

    fn picks(strides: &Strides, places: usize, count: usize, turn: &mut u64) -> Vec<usize> {
        let mut found = vec![0; places];
        for _ in 0..count {
            let place = strides.pick(|| {
                *turn += 1;
                *turn
            });
            found[place] += 1;
        }
        found
    }

    proptest! {
        /// Each entry errs by less than one turn, in any stretch of turns; a place has one entry for each whole mean of
        /// its weight.
        #[test]
        fn shares_are_right_to_a_turn_or_two_for_each_entry(
            weights in proptest::collection::vec(1_u32..=10_000, 1..40),
            begin in any::<u64>(),
        ) {
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let total: f64 = weights.iter().sum();
            let strides = Strides::new(&weights);
            let count = 200 * weights.len();
            let mut turn = begin / 2;
            let found = picks(&strides, weights.len(), count, &mut turn);
            for (found, weight) in found.into_iter().zip(&weights) {
                let expected = count as f64 * weight / total;
                let entries = (weight * weights.len() as f64 / total).ceil();
                // One round may be cut at each end, and its picks stand for a share of all.
                let bound = 2.0 * entries + 1.0 + expected * 4.0 / 200.0;
                prop_assert!((found as f64 - expected).abs() <= bound, "{found} for {expected} of {count}, ±{bound}");
            }
        }

        #[test]
        fn few_turns_are_passed_however_uneven_the_weights(
            mut weights in proptest::collection::vec(1_u32..=10, 2..300),
            heavy in 1_u32..=1_000_000,
        ) {
            weights.push(heavy);
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let strides = Strides::new(&weights);
            prop_assert!(strides.entries.len() <= 2 * weights.len());
            let (count, mut turn) = (50 * weights.len(), 0);
            picks(&strides, weights.len(), count, &mut turn);
            prop_assert!(turn <= 2 * count as u64 + weights.len() as u64, "{turn} turns for {count}");
        }
    }

    #[test]
    fn no_report_makes_a_pick_pass_many_turns() {
        use super::super::blend::blend;
        use crate::orca::{LoadReport, weight};
        let reported = |rps_fractional| {
            let report = LoadReport {
                rps_fractional,
                cpu_utilization: 1.0,
                ..LoadReport::default()
            };
            weight(&report, 1.0)
        };
        for (one, other) in [(1e308, 1e308), (f64::MAX, f64::MIN_POSITIVE)] {
            let weights = blend(vec![1.0; 3], &[reported(one), reported(other), None]);
            let strides = Strides::new(&weights);
            let (mut turn, count) = (0, 100);
            for _ in 0..count {
                strides.pick(|| {
                    turn += 1;
                    assert!(turn <= 3 * count, "{turn} turns: {weights:?}");
                    turn
                });
            }
        }
    }

    #[test]
    fn half_the_weight_is_half_the_turns() {
        // A stride that divides the circle meets its own length exactly.
        let mut turn = 0;
        assert_eq!(
            picks(&Strides::new(&[1.0, 2.0, 4.0, 1.0]), 4, 800, &mut turn),
            [100, 200, 400, 100]
        );
    }

    #[test]
    fn equal_weights_take_turns() {
        let strides = Strides::new(&[7.0; 5]);
        let mut turn = 0;
        let order: Vec<_> = std::iter::repeat_with(|| {
            strides.pick(|| {
                turn += 1;
                turn
            })
        })
        .take(10)
        .collect();
        assert_eq!(order, [1, 2, 3, 4, 0, 1, 2, 3, 4, 0]);
    }

    #[test]
    fn a_heavy_place_does_not_take_its_turns_in_a_burst() {
        // Half of all turns are the heavy one's: more than three in a row would be a burst.
        let strides = Strides::new(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 7.0]);
        let (mut turn, mut run, mut longest) = (0, 0, 0);
        for _ in 0..1000 {
            let place = strides.pick(|| {
                turn += 1;
                turn
            });
            run = if place == 7 { run + 1 } else { 0 };
            longest = longest.max(run);
        }
        assert!(longest <= 3, "{longest} in a row");
    }
}
