//! The number that some dialects have in their keys.

use std::fmt;

use crate::Incarnation;

/// A number that one registration alone has: 1 to 2⁶³ − 1, as a lease's.
///
/// go-zero's own software has the id of a lease in its keys. Here leases are shared, so keys that had their ids would
/// collide; nothing reads more from the number than that it is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(i64);

impl Slot {
    /// That number; `None` when it is 0 or too large.
    pub fn new(number: u64) -> Option<Self> {
        let number = i64::try_from(number).ok()?;
        (number > 0).then_some(Self(number))
    }

    /// A new one, at random.
    pub fn random() -> Self {
        Self(fastrand::i64(1..))
    }
}

/// The same number for the same start of the same instance, so that what is written anew takes the place of what was
/// written before.
impl From<Incarnation> for Slot {
    fn from(incarnation: Incarnation) -> Self {
        Self::new(incarnation.number() >> 1).unwrap_or(Self(1))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Incarnation, Slot};

    #[test]
    fn a_slot_is_a_lease_s_number() {
        let slot = |number| Slot::new(number).map(|slot| slot.to_string());
        assert_eq!(slot(0), None);
        assert_eq!(slot(1).as_deref(), Some("1"));
        assert_eq!(slot(u64::MAX >> 1).as_deref(), Some("9223372036854775807"));
        assert_eq!(slot(1 << 63), None);
        assert!(Slot::random().0 > 0);
    }

    #[test]
    fn a_start_has_one_slot() {
        for (incarnation, slot) in [("1", 1), ("ffffffffffffffff", i64::MAX), ("10", 8)] {
            let incarnation = Incarnation::parse(incarnation).expect("an incarnation");
            assert_eq!(Slot::from(incarnation), Slot(slot));
        }
    }
}
