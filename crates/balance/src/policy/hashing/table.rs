//! Maglev's table (Eisenbud et al., NSDI 2016, section 3.4): as many slots as a prime, each with an owner, such that shares
//! are right to a slot, and few slots change hands when an endpoint comes or goes.

use super::{hash, seeded_hash};

/// The sizes that a service config may ask for: Envoy's default, and its bound.
pub(in crate::policy) const DEFAULT_SIZE: u32 = 65_537;
pub(in crate::policy) const MAX_SIZE: u32 = 5_000_011;

const FREE: u32 = u32::MAX;

/// Who owns each slot.
#[derive(Debug)]
pub(in crate::policy) struct Table {
    owners: Box<[u32]>,
}

impl Table {
    /// The table of at least one endpoint: what each is hashed by, and its weight, a positive number. `size` is a prime.
    ///
    /// With more endpoints than slots the lightest get none.
    pub(in crate::policy) fn new(endpoints: &[(&str, f64)], size: u32) -> Self {
        // Who comes first decides who gives way: it is the keys' order, so that all clients agree.
        let mut order: Vec<usize> = (0..endpoints.len()).collect();
        order.sort_unstable_by_key(|place| endpoints[*place].0);
        let weights: Vec<f64> = order.iter().map(|place| endpoints[*place].1).collect();
        let mut claims: Vec<Claim> = order
            .iter()
            .zip(counts(&weights, size))
            .map(|(place, count)| Claim::new(endpoints[*place].0, index(*place), count, size))
            .collect();
        let mut owners = vec![FREE; size as usize].into_boxed_slice();
        let mut round = 0;
        while !claims.is_empty() {
            round += 1;
            claims.retain_mut(|claim| {
                let due = due(claim.count, round, size, endpoints.len());
                while claim.taken < due {
                    claim.take_next_free(&mut owners);
                }
                due < claim.count
            });
        }
        Self { owners }
    }

    /// The owners along the whole table, once around, from a key's hash on.
    pub(in crate::policy) fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        #[expect(clippy::cast_possible_truncation, reason = "below the number of slots")]
        let first = (hash % self.owners.len() as u64) as usize;
        let around = self.owners[first..].iter().chain(&self.owners[..first]);
        around.map(|owner| *owner as usize)
    }
}

/// The slots that an endpoint would like to have, in its own order: all slots, in steps of a size of its own.
struct Claim {
    owner: u32,
    next: usize,
    step: usize,
    count: u32,
    taken: u32,
}

impl Claim {
    #[expect(clippy::cast_possible_truncation, reason = "below the number of slots")]
    fn new(key: &str, owner: u32, count: u32, size: u32) -> Self {
        Self {
            owner,
            next: (hash(key.as_bytes()) % u64::from(size)) as usize,
            step: (seeded_hash(key.as_bytes(), 1) % u64::from(size - 1)) as usize + 1,
            count,
            taken: 0,
        }
    }

    /// Takes the first of them that is free; there is one.
    fn take_next_free(&mut self, owners: &mut [u32]) {
        while owners[self.next] != FREE {
            self.advance(owners.len());
        }
        owners[self.next] = self.owner;
        self.taken += 1;
    }

    fn advance(&mut self, size: usize) {
        self.next += self.step;
        if self.next >= size {
            self.next -= size;
        }
    }
}

/// How many slots each endpoint has: its share, rounded such that all slots are given, and at least one where there are
/// enough.
fn counts(weights: &[f64], size: u32) -> Vec<u32> {
    let total: f64 = weights.iter().sum();
    let spare = f64::from(size) - weights.len() as f64;
    if spare < 0.0 {
        let mut heaviest: Vec<usize> = (0..weights.len()).collect();
        heaviest.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
        let mut counts = vec![0; weights.len()];
        heaviest[..size as usize]
            .iter()
            .for_each(|place| counts[*place] = 1);
        return counts;
    }
    // Shares below one slot are raised to one, at the cost of all others in proportion.
    let (mut free, mut shared) = (f64::from(size), total);
    let mut raised = vec![false; weights.len()];
    loop {
        let before = free;
        let (unit_slots, unit_weight) = (free, shared);
        for (weight, raised) in weights.iter().zip(&mut raised) {
            if !*raised && weight / unit_weight * unit_slots < 1.0 {
                *raised = true;
                free -= 1.0;
                shared -= weight;
            }
        }
        if free >= before {
            break;
        }
    }
    // Each ends where the sum of the shares so far ends, rounded: no sum of parts errs by more than one slot.
    let (mut end, mut given) = (0.0_f64, 0_u32);
    let mut counts = Vec::with_capacity(weights.len());
    for (weight, raised) in weights.iter().zip(raised) {
        if raised {
            counts.push(1);
            continue;
        }
        end += weight / shared * free;
        let upto = rounded(end);
        counts.push(upto - given);
        given = upto;
    }
    counts
}

/// How many of its `count` slots an endpoint has after `round` rounds: rounds are such that a mean endpoint takes one in
/// each.
fn due(count: u32, round: u64, size: u32, endpoints: usize) -> u32 {
    let due = (u64::from(count) * round * endpoints as u64).div_ceil(u64::from(size));
    u32::try_from(due).map_or(count, |due| due.min(count))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the size"
)]
fn rounded(slots: f64) -> u32 {
    slots.round() as u32
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "no more endpoints are taken in than there are slots"
)]
fn index(place: usize) -> u32 {
    place as u32
}

/// Whether `number` is a prime, as a table's size has to be: only then each step visits all slots.
pub(in crate::policy) fn is_prime(number: u32) -> bool {
    number >= 2 && !(2..=number.isqrt()).any(|divisor| number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{DEFAULT_SIZE, FREE, MAX_SIZE, Table, counts, is_prime};

    fn keys(count: usize) -> Vec<String> {
        (0..count)
            .map(|i| format!("10.0.{}.{}:80", i / 250, i % 250))
            .collect()
    }

    fn table(keys: &[String], weights: &[f64], size: u32) -> Table {
        let endpoints: Vec<_> = keys
            .iter()
            .map(String::as_str)
            .zip(weights.iter().copied())
            .collect();
        Table::new(&endpoints, size)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn each_slot_has_an_owner_and_each_owner_its_share_to_a_slot(
            weights in proptest::collection::vec(1_u32..=1000, 1..60),
        ) {
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let total: f64 = weights.iter().sum();
            // So many slots that nobody's share is below one.
            let size = DEFAULT_SIZE;
            let table = table(&keys(weights.len()), &weights, size);
            prop_assert!(table.owners.iter().all(|owner| *owner != FREE));
            for (place, weight) in weights.iter().enumerate() {
                let slots = table.owners.iter().filter(|owner| **owner as usize == place).count();
                let share = weight / total * f64::from(size);
                prop_assert!((slots as f64 - share).abs() <= 1.0, "{slots} for {share}");
            }
        }

        #[test]
        fn nobody_is_left_out_while_there_are_enough_slots(
            weights in proptest::collection::vec(1_u32..=1_000_000, 1..101),
        ) {
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let counts = counts(&weights, 101);
            prop_assert_eq!(counts.iter().sum::<u32>(), 101);
            prop_assert!(counts.iter().all(|count| *count >= 1));
        }
    }

    #[test]
    fn more_endpoints_than_slots_leave_out_the_lightest() {
        assert_eq!(counts(&[1.0, 3.0, 2.0, 4.0], 3), [0, 1, 1, 1]);
        let table = table(&keys(20), &[1.0; 20], 7);
        assert!(table.owners.iter().all(|owner| *owner != FREE));
    }

    /// What belonged to the one who goes has to move; of the rest at most 2 % does.
    #[test]
    fn few_keys_move_besides_those_of_who_goes() {
        for count in [3, 10, 100] {
            let all = keys(count);
            let before = table(&all, &vec![1.0; count], DEFAULT_SIZE);
            for gone in [0, count / 2, count - 1] {
                let mut left = all.clone();
                left.remove(gone);
                let after = table(&left, &vec![1.0; count - 1], DEFAULT_SIZE);
                let same = |(was, is): (&u32, &u32)| all[*was as usize] == left[*is as usize];
                let others = before
                    .owners
                    .iter()
                    .zip(&after.owners)
                    .filter(|(was, _)| **was as usize != gone);
                let (stayed, moved): (Vec<_>, Vec<_>) = others.partition(|pair| same(*pair));
                let share = moved.len() as f64 / (stayed.len() + moved.len()) as f64;
                assert!(share < 0.02, "{share} of {count} without {gone}");
            }
        }
    }

    #[test]
    fn a_table_does_not_depend_on_the_order_of_the_list() {
        let keys = keys(30);
        let reversed: Vec<String> = keys.iter().rev().cloned().collect();
        let (one, other) = (
            table(&keys, &[1.0; 30], 251),
            table(&reversed, &[1.0; 30], 251),
        );
        let names = |table: &Table, keys: &[String]| -> Vec<String> {
            table
                .owners
                .iter()
                .map(|owner| keys[*owner as usize].clone())
                .collect()
        };
        assert_eq!(names(&one, &keys), names(&other, &reversed));
    }

    #[test]
    fn the_known_sizes_are_primes() {
        assert!(is_prime(DEFAULT_SIZE) && is_prime(MAX_SIZE) && is_prime(2));
        assert!(!is_prime(0) && !is_prime(1) && !is_prime(65_536) && !is_prime(49));
    }
}
