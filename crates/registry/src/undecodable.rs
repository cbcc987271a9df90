//! What a store holds that cannot be read: said once, counted, and skipped.

use std::{
    collections::{HashSet, VecDeque, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many values are remembered; the one seen longest ago is forgotten first.
const REMEMBERED: usize = 16 * 1024;

/// Counts the values that a store skipped because they are no instances, and warns of each once.
///
/// A value is told from another by its key and its revision in the store, so that a list that meets it again says
/// nothing, and a new value at the same key is worth a new warning. Clones count together.
///
/// ```
/// let undecodable = registry::Undecodable::default();
/// undecodable.skip("greeter/a", 7, &"it has no address");
/// undecodable.skip("greeter/a", 7, &"it has no address");
/// assert_eq!(undecodable.count(), 1);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Undecodable {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    count: u64,
    // Hashes, since whoever writes bad values chooses how long their keys are.
    values: HashSet<u64>,
    in_order: VecDeque<u64>,
}

impl Undecodable {
    /// Says that the value at `key`, as of `revision`, is skipped; warns and counts only the first time.
    pub fn skip(&self, key: &str, revision: impl Hash, reason: &dyn fmt::Display) {
        let mut hasher = DefaultHasher::new();
        (key, revision).hash(&mut hasher);
        if self.lock().is_new(hasher.finish()) {
            tracing::warn!(key, %reason, "skipping an undecodable instance");
        }
    }

    /// How many values were skipped, each revision of each key counted once.
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn is_new(&mut self, value: u64) -> bool {
        if !self.values.insert(value) {
            return false;
        }
        self.count += 1;
        self.in_order.push_back(value);
        if self.in_order.len() > REMEMBERED
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.values.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{REMEMBERED, Undecodable};

    #[test]
    fn each_revision_of_each_key_counts_once() {
        let undecodable = Undecodable::default();
        for (key, revision) in [("a", 1), ("a", 1), ("a", 2), ("b", 1), ("a", 1)] {
            undecodable.clone().skip(key, revision, &"bad");
        }
        assert_eq!(undecodable.count(), 3);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten_first() {
        let undecodable = Undecodable::default();
        for revision in 0..=REMEMBERED {
            undecodable.skip("a", revision, &"bad");
        }
        let remembered = undecodable.lock().values.len();
        assert_eq!(remembered, REMEMBERED);
        undecodable.skip("a", REMEMBERED, &"bad");
        assert_eq!(undecodable.count(), REMEMBERED as u64 + 1, "the newest");
        undecodable.skip("a", 0_usize, &"bad");
        assert_eq!(undecodable.count(), REMEMBERED as u64 + 2, "the oldest");
    }
}
