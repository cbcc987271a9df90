//! The ring of gRFC A42: each endpoint at several positions of a circle of hashes, and a key at the next one after it.
//!
//! Hash function and construction are A42's, so that a client of any other gRPC with the same settings sends a key to the
//! same endpoint.

use std::{cmp::Ordering, ops::RangeInclusive};

use super::hash;

/// How many entries a ring has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct RingSize {
    pub(in crate::policy) min: u32,
    /// Wins over `min`.
    pub(in crate::policy) max: u32,
}

impl RingSize {
    /// What a service config may ask for.
    pub(in crate::policy) const RANGE: RangeInclusive<u32> = 1..=8_388_608;
}

/// A ring, laid out such that a key's entry is found with one look at memory, however large the ring.
///
/// Hashes are evenly distributed, so an entry's place is known but for a few: where its hash is on the circle, if others
/// before it leave that free, or after them. What is free before an entry is filled with it.
#[derive(Debug)]
pub(in crate::policy) struct Ring {
    slots: Box<[Slot]>,
    /// The lower halves of the slots' hashes, which nearly no look needs.
    lower: Box<[u32]>,
    /// What the circle is divided into, of which the last may be passed, or not be reached.
    size: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The upper half of the hash.
    upper: u32,
    owner: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u64,
    owner: u32,
}

/// Slots for each entry: with half of them free, hardly an entry is far from its place.
const ROOM: usize = 2;

impl Ring {
    /// The ring of at least one endpoint: what each is hashed by, and its weight, a positive number.
    pub(in crate::policy) fn new(endpoints: &[(&str, f64)], size: RingSize) -> Self {
        let mut entries = entries(endpoints, size);
        entries.sort_unstable_by_key(|entry| (entry.hash, entry.owner));
        Self::spread(&entries)
    }

    fn spread(entries: &[Entry]) -> Self {
        let size = entries.len() * ROOM;
        let (mut slots, mut lower) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for entry in entries {
            let (upper, low) = halves(entry.hash);
            let end = place(entry.hash, size).max(slots.len()) + 1;
            let owner = entry.owner;
            slots.resize(end, Slot { upper, owner });
            lower.resize(end, low);
        }
        Self {
            slots: slots.into(),
            lower: lower.into(),
            size,
        }
    }

    /// The owners along the whole ring, once around, from a key's hash on. An owner comes as often as it has slots.
    pub(in crate::policy) fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        let first = self.first(hash);
        let around = self.slots[first..].iter().chain(&self.slots[..first]);
        around.map(|slot| slot.owner as usize)
    }

    /// The first slot of the first entry at `hash` or after it, or one that is filled with it.
    fn first(&self, hash: u64) -> usize {
        let (upper, low) = halves(hash);
        let is_reached = |place: &usize| match self.slots[*place].upper.cmp(&upper) {
            Ordering::Less => false,
            Ordering::Equal => self.lower[*place] >= low,
            Ordering::Greater => true,
        };
        let mut places = place(hash, self.size)..self.slots.len();
        places.find(is_reached).unwrap_or(0)
    }
}

/// Where a hash is on a circle that is divided into `size`.
#[expect(clippy::cast_possible_truncation, reason = "below the size")]
fn place(hash: u64, size: usize) -> usize {
    ((u128::from(hash) * size as u128) >> u64::BITS) as usize
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a hash")]
fn halves(hash: u64) -> (u32, u32) {
    ((hash >> u32::BITS) as u32, hash as u32)
}

/// Each endpoint's entries: so many in all that the lightest has a whole number, and at least `min`, but no more than
/// `max`. Endpoints take their parts in the order of their keys, and a part of an entry is rounded to the one or the other.
fn entries(endpoints: &[(&str, f64)], size: RingSize) -> Vec<Entry> {
    let total: f64 = endpoints.iter().map(|(_, weight)| weight).sum();
    let lightest = endpoints
        .iter()
        .map(|(_, weight)| weight / total)
        .fold(1.0, f64::min);
    let wanted = (lightest * f64::from(size.min)).ceil() / lightest;
    let scale = wanted.min(f64::from(size.max));
    let mut order: Vec<u32> = (0..).take(endpoints.len()).collect();
    order.sort_unstable_by_key(|owner| endpoints[*owner as usize].0);
    let mut entries = Vec::new();
    let (mut taken, mut due) = (0.0, 0.0);
    for owner in order {
        let (key, weight) = endpoints[owner as usize];
        due += scale * (weight / total);
        let mut numbered = Numbered::new(key);
        let mut index = 0_u32;
        while taken < due {
            entries.push(Entry {
                hash: hash(numbered.with(index)),
                owner,
            });
            index += 1;
            taken += 1.0;
        }
    }
    entries
}

/// `<key>_<index>`, what A42 hashes, written into one buffer.
struct Numbered {
    text: Vec<u8>,
    key: usize,
}

impl Numbered {
    fn new(key: &str) -> Self {
        let mut text = Vec::with_capacity(key.len() + 11);
        text.extend_from_slice(key.as_bytes());
        text.push(b'_');
        Self {
            key: text.len(),
            text,
        }
    }

    fn with(&mut self, mut index: u32) -> &[u8] {
        self.text.truncate(self.key);
        loop {
            self.text.push(b"0123456789"[(index % 10) as usize]);
            index /= 10;
            if index == 0 {
                break;
            }
        }
        self.text[self.key..].reverse();
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{Numbered, Ring, RingSize, Slot};

    fn keys(count: usize) -> Vec<String> {
        (0..count)
            .map(|i| format!("10.0.{}.{}:80", i / 250, i % 250))
            .collect()
    }

    fn ring(keys: &[String], weights: &[f64], size: RingSize) -> Ring {
        let endpoints: Vec<_> = keys
            .iter()
            .map(String::as_str)
            .zip(weights.iter().copied())
            .collect();
        Ring::new(&endpoints, size)
    }

    /// Each entry's hash and owner, in the order of the circle.
    fn entries_of(ring: &Ring) -> Vec<(u64, u32)> {
        let slots = ring.slots.iter().zip(&ring.lower);
        let entry = |(slot, lower): (&Slot, &u32)| {
            let hash = u64::from(slot.upper) << u32::BITS | u64::from(*lower);
            (hash, slot.owner)
        };
        let mut entries: Vec<_> = slots.map(entry).collect();
        entries.dedup();
        entries
    }

    fn owner<'a>(ring: &Ring, keys: &'a [String], hash: u64) -> &'a str {
        &keys[ring.walk(hash).next().expect("an entry")]
    }

    #[test]
    fn a_number_is_written_as_others_write_it() {
        let mut numbered = Numbered::new("a:1");
        for index in [0, 7, 10, 99, 100, 4_294_967_295] {
            assert_eq!(numbered.with(index), format!("a:1_{index}").as_bytes());
        }
    }

    /// gRFC A42's example of sizes: the lightest has a whole number of entries.
    #[test]
    fn the_ring_is_as_large_as_its_bounds_and_weights_say() {
        let sized = |weights: &[f64], min, max| {
            let ring = ring(&keys(weights.len()), weights, RingSize { min, max });
            let mut counts = vec![0; weights.len()];
            for (_, owner) in entries_of(&ring) {
                counts[owner as usize] += 1;
            }
            counts
        };
        assert_eq!(sized(&[3.0, 3.0, 4.0], 10, 20), [3, 3, 4]);
        assert_eq!(sized(&[3.0, 3.0, 4.0], 7, 20), [3, 3, 4]);
        assert_eq!(sized(&[3.0, 3.0, 4.0], 7, 7), [3, 2, 2], "{:?}", keys(3));
        assert_eq!(sized(&[1.0, 1.0], 3, 4096), [2, 2]);
        assert_eq!(sized(&[1.0, 1.0, 2.0], 1, 4096), [1, 1, 2]);
    }

    proptest! {
        #[test]
        fn a_key_goes_to_the_next_entry_of_the_circle(
            count in 1_usize..60, min in 1_u32..500, hashes in proptest::collection::vec(any::<u64>(), 1..50),
        ) {
            let keys = keys(count);
            let ring = ring(&keys, &vec![1.0; count], RingSize { min, max: 500 });
            let entries = entries_of(&ring);
            prop_assert!(entries.is_sorted());
            let ends = entries.iter().flat_map(|(hash, _)| [hash - 1, *hash, hash + 1]);
            for hash in hashes.into_iter().chain(ends).chain([0, u64::MAX]) {
                let searched = entries.partition_point(|(entry, _)| *entry < hash) % entries.len();
                let around = entries[searched..].iter().chain(&entries[..searched]).chain(&entries[searched..][..1]);
                let mut owners: Vec<_> = around.map(|(_, owner)| *owner as usize).collect();
                // The last are the first entry's, if others are before the slot at which it was found.
                let mut walked: Vec<_> = ring.walk(hash).chain([owners[0]]).collect();
                owners.dedup();
                walked.dedup();
                prop_assert_eq!(walked, owners);
            }
        }

        /// With weights that are alike, only what the one who came or went has, moves.
        #[test]
        fn only_the_keys_of_who_goes_move(count in 2_usize..40, gone in any::<prop::sample::Index>(), seed in any::<u64>()) {
            // One entry for each, or ten: no part of an entry is rounded.
            for each in [1, 10] {
                let size = |n| RingSize { min: each * n, max: 4096 };
                let all = keys(count);
                let mut left = all.clone();
                let gone = left.remove(gone.index(count));
                let n = u32::try_from(count).expect("few");
                let before = ring(&all, &vec![1.0; count], size(n));
                let after = ring(&left, &vec![1.0; count - 1], size(n - 1));
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..300 {
                    let hash = random.u64(..);
                    let was = owner(&before, &all, hash);
                    prop_assert!(was == gone || was == owner(&after, &left, hash));
                }
            }
        }
    }

    #[test]
    fn shares_follow_weights_to_a_fifth_with_a_hundred_entries_for_each_unit() {
        let keys = keys(10);
        let weights: Vec<f64> = (1..=10).map(|i| f64::from(i % 3 + 1)).collect();
        let total: f64 = weights.iter().sum();
        let ring = ring(
            &keys,
            &weights,
            RingSize {
                min: 2000,
                max: 4096,
            },
        );
        let mut random = fastrand::Rng::with_seed(7);
        let mut found: HashMap<usize, f64> = HashMap::new();
        let calls = 200_000;
        for _ in 0..calls {
            *found
                .entry(ring.walk(random.u64(..)).next().expect("an entry"))
                .or_default() += 1.0;
        }
        for (place, weight) in weights.iter().enumerate() {
            let share = found[&place] / f64::from(calls);
            let expected = weight / total;
            assert!(
                (share / expected - 1.0).abs() < 0.2,
                "{place}: {share} for {expected}"
            );
        }
    }
}
