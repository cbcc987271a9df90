//! Entries kept by the tick at which they are due: a hierarchical timing wheel (Varghese and Lauck, 1987).
//!
//! A level has 64 slots, and one of its slots lasts as long as all of the level below. An entry stands at the level of the
//! highest digit, to base 64, in which its tick differs from the present one. So within a level every entry is ahead of the
//! present, and each of a lower level is due before any of a higher one: the first occupied slot of the lowest occupied
//! level is always the next. When the present reaches a slot above the lowest level, its entries move down.

/// Bits of a tick that a level stands for.
const DIGIT: u32 = 6;
const SLOTS: usize = 1 << DIGIT;
/// The lowest digit of a tick.
const LOWEST: u64 = SLOTS as u64 - 1;
/// As many as any tick needs, so that none is too far ahead.
const LEVELS: usize = u64::BITS.div_ceil(DIGIT) as usize;
/// The end of a list.
const NONE: u32 = u32::MAX;

/// Values, each due at a tick. Inserting and removing take constant time.
///
/// Memory is that of the most entries there ever were at once: their places are used again and not given back.
#[derive(Debug)]
pub(super) struct Wheel<T> {
    /// The present: all that is due by now has been handed out, but for what was inserted since.
    now: u64,
    entries: Vec<Entry<T>>,
    /// The first of the unused entries, which are chained by `next`.
    unused: u32,
    len: usize,
    /// How many were ever inserted.
    inserted: u64,
    /// A bit for each slot of a level that has entries.
    occupied: [u64; LEVELS],
    /// The first entry of each slot, level after level.
    first: [u32; LEVELS * SLOTS],
}

/// Names an entry for as long as it is there, and nothing afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    /// No other entry of this wheel has or had it.
    serial: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: u64,
    serial: u64,
    /// None while unused.
    value: Option<T>,
    next: u32,
    previous: u32,
    slot: Slot,
}

/// A slot of any level: 64 times the level, and the place within it.
#[derive(Debug, Clone, Copy)]
struct Slot(u32);

impl Slot {
    /// Where an entry for `at` stands when it is `now`.
    fn of(at: u64, now: u64) -> Self {
        // What is overdue is due at once.
        let at = at.max(now);
        let level = ((at ^ now) | LOWEST).ilog2() / DIGIT;
        let place = ((at >> (level * DIGIT)) & LOWEST) as u32;
        Self(level << DIGIT | place)
    }

    fn index(self) -> usize {
        self.0 as usize
    }

    fn level(self) -> usize {
        self.index() / SLOTS
    }

    fn bit(self) -> u64 {
        1 << (self.index() % SLOTS)
    }
}

impl<T> Wheel<T> {
    /// Empty, at tick 0.
    pub(super) fn new() -> Self {
        Self {
            now: 0,
            entries: Vec::new(),
            unused: NONE,
            len: 0,
            inserted: 0,
            occupied: [0; LEVELS],
            first: [NONE; LEVELS * SLOTS],
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Keeps `value` until `at`. What is overdue is handed out by the next [`advance`](Self::advance).
    pub(super) fn insert(&mut self, at: u64, value: T) -> Key {
        self.inserted += 1;
        self.len += 1;
        let serial = self.inserted;
        let entry = Entry {
            at,
            serial,
            value: Some(value),
            next: NONE,
            previous: NONE,
            slot: Slot(0),
        };
        let index = self.unused;
        let index = if let Some(free) = self.entries.get_mut(index as usize) {
            self.unused = free.next;
            *free = entry;
            index
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1)
                .ok()
                .filter(|&index| index != NONE)
                .expect("fewer entries than memory has room for")
        };
        self.link(index);
        Key { index, serial }
    }

    /// Takes an entry out before it is due; none if it is gone already.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entry(key)?;
        let (slot, next, previous) = (entry.slot, entry.next, entry.previous);
        let value = entry.value.take()?;
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous == NONE {
            self.first[slot.index()] = next;
            if next == NONE {
                self.occupied[slot.level()] &= !slot.bit();
            }
        } else {
            self.entries[previous as usize].next = next;
        }
        self.recycle(key.index);
        Some(value)
    }

    /// The value of an entry that is still there.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.entry(key)?.value.as_mut()
    }

    /// Makes `now` the present, and moves the values of all entries that are due by then into `due`: by their ticks, and
    /// those of one tick in any order. The present never goes back.
    pub(super) fn advance(&mut self, now: u64, due: &mut Vec<T>) {
        let now = now.max(self.now);
        while let Some((slot, start)) = self.next_slot()
            && start <= now
        {
            self.now = start;
            self.occupied[slot.level()] &= !slot.bit();
            let mut index = std::mem::replace(&mut self.first[slot.index()], NONE);
            while index != NONE {
                let entry = &mut self.entries[index as usize];
                let next = entry.next;
                if entry.at > start {
                    self.link(index);
                } else {
                    due.extend(entry.value.take());
                    self.recycle(index);
                }
                index = next;
            }
        }
        self.now = now;
    }

    /// When to [`advance`](Self::advance) next: a tick before which nothing is due. None while empty. If nothing is due at
    /// it, entries move down, and the next one is nearer to the first that is.
    pub(super) fn next_tick(&self) -> Option<u64> {
        self.next_slot().map(|(_, start)| start)
    }

    /// The slot that the present reaches first, and the tick at which it does.
    fn next_slot(&self) -> Option<(Slot, u64)> {
        let (level, &occupied) = (0u32..)
            .zip(&self.occupied)
            .find(|(_, occupied)| **occupied != 0)?;
        let place = occupied.trailing_zeros();
        let shift = level * DIGIT;
        let digits = (self.now >> shift) & !LOWEST | u64::from(place);
        Some((Slot(level << DIGIT | place), digits << shift))
    }

    fn entry(&mut self, key: Key) -> Option<&mut Entry<T>> {
        self.entries
            .get_mut(key.index as usize)
            .filter(|entry| entry.serial == key.serial)
    }

    /// Puts an entry first in the slot in which it belongs by now.
    fn link(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let slot = Slot::of(entry.at, self.now);
        let next = std::mem::replace(&mut self.first[slot.index()], index);
        entry.slot = slot;
        entry.next = next;
        entry.previous = NONE;
        if next != NONE {
            self.entries[next as usize].previous = index;
        }
        self.occupied[slot.level()] |= slot.bit();
    }

    /// Makes the place of an entry that is in no list any more that of the next one inserted.
    fn recycle(&mut self, index: u32) {
        self.entries[index as usize].next = self.unused;
        self.unused = index;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Key, Wheel};

    fn advanced<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
        let mut due = Vec::new();
        wheel.advance(now, &mut due);
        due
    }

    #[test]
    fn a_value_is_due_at_its_tick_and_not_before() {
        for at in [1, 63, 64, 65, 4_095, 4_096, 3_600_000, 1 << 42, u64::MAX] {
            let mut wheel = Wheel::new();
            wheel.insert(at, at);
            assert!(advanced(&mut wheel, at - 1).is_empty());
            assert_eq!(advanced(&mut wheel, at), [at]);
            assert_eq!(wheel.next_tick(), None);
        }
    }

    #[test]
    fn what_is_overdue_is_due_at_once() {
        let mut wheel = Wheel::new();
        advanced(&mut wheel, 1_000);
        wheel.insert(7, "overdue");
        wheel.insert(1_000, "due");
        assert_eq!(wheel.next_tick(), Some(1_000));
        let mut due = advanced(&mut wheel, 1_000);
        due.sort_unstable();
        assert_eq!(due, ["due", "overdue"]);
    }

    #[test]
    fn a_key_names_nothing_when_its_entry_is_gone() {
        let mut wheel = Wheel::new();
        let removed = wheel.insert(5, "removed");
        assert_eq!(wheel.remove(removed), Some("removed"));
        let expired = wheel.insert(5, "expired");
        assert_eq!(removed.index, expired.index, "its place is used again");
        assert_eq!(wheel.remove(removed), None);
        assert_eq!(wheel.get_mut(removed), None);
        assert_eq!(advanced(&mut wheel, 5), ["expired"]);
        assert_eq!(wheel.remove(expired), None);
        assert_eq!(wheel.get_mut(expired), None);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn memory_is_that_of_the_most_entries_at_once() {
        let mut wheel = Wheel::new();
        for round in 0..1_000 {
            let keys: Vec<_> = (0..10).map(|n| wheel.insert(round * 50 + n, n)).collect();
            for key in &keys[5..] {
                wheel.remove(*key);
            }
            advanced(&mut wheel, round * 50 + 10);
        }
        assert_eq!(wheel.entries.len(), 10);
    }

    #[test]
    fn an_entry_moves_down_once_a_level_at_most() {
        let mut wheel = Wheel::new();
        wheel.insert(3_599_999, ());
        let mut advances = 0;
        while let Some(next) = wheel.next_tick() {
            advanced(&mut wheel, next);
            advances += 1;
        }
        assert_eq!(advances, 4, "an hour is four digits of milliseconds");
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// So far from the present, behind it if negative.
        Insert(i64),
        /// One of the keys ever given.
        Remove(prop::sample::Index),
        Change(prop::sample::Index),
        Advance(u64),
        /// To the tick of the first that is due, or the one before.
        AdvanceToFirst(bool),
        AdvanceToNextTick,
    }

    /// Of any order of magnitude below `1 << bits`.
    fn distance(bits: u32) -> impl Strategy<Value = u64> {
        (0..bits, any::<u64>()).prop_map(|(bits, random)| random % (2 << bits))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => distance(14).prop_map(|ahead| Step::Insert(ahead.cast_signed())),
            4 => distance(62).prop_map(|ahead| Step::Insert(ahead.cast_signed())),
            1 => distance(10).prop_map(|behind| Step::Insert(-behind.cast_signed())),
            4 => any::<prop::sample::Index>().prop_map(Step::Remove),
            2 => any::<prop::sample::Index>().prop_map(Step::Change),
            4 => distance(14).prop_map(Step::Advance),
            1 => distance(50).prop_map(Step::Advance),
            4 => any::<bool>().prop_map(Step::AdvanceToFirst),
            4 => Just(Step::AdvanceToNextTick),
        ]
    }

    /// What a wheel should hold, with no wheel: values by when they come out and by their number.
    #[derive(Default)]
    struct Model {
        now: u64,
        values: BTreeMap<(u64, usize), u32>,
        given: Vec<(Key, (u64, usize))>,
    }

    impl Model {
        fn first(&self) -> Option<u64> {
            self.values.keys().next().map(|(at, _)| *at)
        }

        fn insert(&mut self, wheel: &mut Wheel<(u64, usize, u32)>, at: u64) {
            let out = (at.max(self.now), self.given.len());
            let key = wheel.insert(at, (out.0, out.1, 0));
            assert!(self.given.iter().all(|(given, _)| *given != key));
            self.values.insert(out, 0);
            self.given.push((key, out));
        }

        fn advance(&mut self, wheel: &mut Wheel<(u64, usize, u32)>, now: u64) {
            self.now = self.now.max(now);
            let later = self.values.split_off(&(self.now + 1, 0));
            let expected: Vec<_> = std::mem::replace(&mut self.values, later)
                .into_iter()
                .map(|((at, number), changes)| (at, number, changes))
                .collect();
            let mut due = advanced(wheel, now);
            assert!(due.is_sorted_by_key(|(at, ..)| *at), "{due:?}");
            due.sort_unstable();
            assert_eq!(due, expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn each_value_comes_out_once_at_its_tick_unless_it_is_removed(
            steps in prop::collection::vec(step(), 1..120)
        ) {
            let mut wheel = Wheel::new();
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Insert(distance) => {
                        let at = model.now.saturating_add_signed(distance);
                        model.insert(&mut wheel, at);
                    }
                    Step::Remove(which) if !model.given.is_empty() => {
                        let (key, out) = which.get(&model.given);
                        let expected = model.values.remove(out);
                        prop_assert_eq!(
                            wheel.remove(*key),
                            expected.map(|changes| (out.0, out.1, changes))
                        );
                    }
                    Step::Change(which) if !model.given.is_empty() => {
                        let (key, out) = which.get(&model.given);
                        let there = wheel.get_mut(*key).map(|(_, _, changes)| *changes += 1);
                        let expected = model.values.get_mut(out).map(|changes| *changes += 1);
                        prop_assert_eq!(there, expected);
                    }
                    Step::Remove(_) | Step::Change(_) => {}
                    Step::Advance(by) => {
                        let now = model.now + by;
                        model.advance(&mut wheel, now);
                    }
                    Step::AdvanceToFirst(just_before) => {
                        if let Some(at) = model.first() {
                            model.advance(&mut wheel, at.saturating_sub(just_before.into()));
                        }
                    }
                    Step::AdvanceToNextTick => {
                        if let Some(at) = wheel.next_tick() {
                            model.advance(&mut wheel, at);
                        }
                    }
                }
                prop_assert_eq!(wheel.len(), model.values.len());
                prop_assert_eq!(wheel.next_tick().is_some(), model.first().is_some());
                if let (Some(next), Some(first)) = (wheel.next_tick(), model.first()) {
                    prop_assert!(next <= first);
                    prop_assert!(next > model.now || first == model.now);
                }
            }
        }
    }
}
