//! What a store holds that cannot be read: said once, counted, and skipped.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How many values are told apart.
const REMEMBERED: usize = 16 * 1024;
/// When there is no room for another value, those that were not met for so long are forgotten.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// How many characters of a key, and of a reason, a log is given: either may be as long as whoever wrote the value wants.
const LONGEST: usize = 200;

/// Counts the values that a store skipped because they are no instances, or no intents, and warns of each once.
///
/// A value is told from another by its key and its revision in the store, so that a list that meets it again says
/// nothing, and a new value at the same key is worth a new warning. Clones count together.
///
/// Up to 16,384 values are told apart. What is met beyond is skipped too, with one warning an hour for all of it, and is
/// not counted.
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
    /// When each was met last. Hashes, since whoever writes bad values chooses how long their keys are.
    values: HashMap<u64, Instant>,
    /// When those that had not been met for long were last forgotten.
    tidied: Option<Instant>,
    /// Whether more have been met since then than there was room for.
    overflowed: bool,
}

/// What to say of a value.
#[derive(Debug, PartialEq, Eq)]
enum Say {
    Nothing,
    ThisOne,
    TooMany,
}

impl Undecodable {
    /// Says that the value at `key`, as of `revision`, is skipped; warns and counts only the first time.
    pub fn skip(&self, key: &str, revision: impl Hash, reason: &dyn fmt::Display) {
        let mut hasher = DefaultHasher::new();
        (key, revision).hash(&mut hasher);
        let say = self.lock().meet(hasher.finish(), Instant::now());
        match say {
            Say::Nothing => {}
            Say::ThisOne => {
                let (key, reason) = (clipped(key), clipped(&reason.to_string()));
                tracing::warn!(
                    key,
                    reason,
                    "skipping what is neither an instance nor an intent"
                );
            }
            Say::TooMany => tracing::warn!(
                key = clipped(key),
                "skipping further values that cannot be decoded without a word: there are more than {REMEMBERED}"
            ),
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
    fn meet(&mut self, value: u64, now: Instant) -> Say {
        if let Some(last) = self.values.get_mut(&value) {
            *last = now;
            return Say::Nothing;
        }
        if self.values.len() >= REMEMBERED {
            self.tidy(now);
        }
        if self.values.len() >= REMEMBERED {
            let is_known = mem::replace(&mut self.overflowed, true);
            return if is_known { Say::Nothing } else { Say::TooMany };
        }
        self.values.insert(value, now);
        self.count += 1;
        Say::ThisOne
    }

    /// Makes room, at most once in the time after which a value is forgotten.
    fn tidy(&mut self, now: Instant) {
        let is_recent = |then: Instant| now.duration_since(then) < FORGOTTEN;
        if !self.tidied.is_some_and(is_recent) {
            self.tidied = Some(now);
            self.overflowed = false;
            self.values.retain(|_, last| is_recent(*last));
        }
    }
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::{FORGOTTEN, Instant, LONGEST, REMEMBERED, Say, Seen, Undecodable, clipped};

    #[test]
    fn each_revision_of_each_key_counts_once() {
        let undecodable = Undecodable::default();
        for (key, revision) in [("a", 1), ("a", 1), ("a", 2), ("b", 1), ("a", 1)] {
            undecodable.clone().skip(key, revision, &"bad");
        }
        assert_eq!(undecodable.count(), 3);
    }

    #[test]
    fn more_values_than_are_remembered_are_no_flood_however_often_they_are_met() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let mut sweep = |now| {
            let said = (0..REMEMBERED as u64 + 100).map(|value| seen.meet(value, now));
            let said: Vec<_> = said.filter(|said| *said != Say::Nothing).collect();
            (
                said.len(),
                said.last() == Some(&Say::TooMany),
                seen.values.len(),
                seen.count,
            )
        };
        let count = REMEMBERED as u64;
        assert_eq!(sweep(now), (REMEMBERED + 1, true, REMEMBERED, count));
        assert_eq!(sweep(now), (0, false, REMEMBERED, count));
        assert_eq!(sweep(now + FORGOTTEN / 2), (0, false, REMEMBERED, count));
        assert_eq!(sweep(now + FORGOTTEN), (1, true, REMEMBERED, count));
    }

    #[test]
    fn what_is_met_no_more_makes_room_in_the_end() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        for value in 0..REMEMBERED as u64 {
            assert_eq!(seen.meet(value, now), Say::ThisOne);
        }
        let later = now + FORGOTTEN;
        assert_eq!(seen.meet(0, later), Say::Nothing);
        assert_eq!(seen.meet(u64::MAX, later), Say::ThisOne);
        assert_eq!(seen.meet(0, later), Say::Nothing);
        assert_eq!(seen.values.len(), 2);
    }

    #[test]
    fn a_log_is_not_given_a_megabyte() {
        assert_eq!(clipped("short"), "short");
        let long = clipped(&"ü".repeat(1_000_000));
        assert_eq!(long, "ü".repeat(LONGEST) + "...");
    }
}
