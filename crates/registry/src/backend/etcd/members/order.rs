//! Which member comes next: a pure choice.

use crate::Address;

/// The members in the order in which they are used: those that were configured in turns, and those that the cluster has
/// told of only when none of these has answered.
#[derive(Debug)]
pub(super) struct Order {
    configured: Vec<Address>,
    learned: Vec<Address>,
    /// How many of those that were configured were left; modulo their number, which of them is in use or was last.
    at: usize,
    /// How many were left one after another without an answer.
    misses: usize,
    /// The learned one in use, if one is.
    away: Option<Address>,
}

impl Order {
    pub(super) fn new(mut configured: Vec<Address>) -> Self {
        fastrand::shuffle(&mut configured);
        Self {
            configured,
            learned: Vec::new(),
            at: 0,
            misses: 0,
            away: None,
        }
    }

    pub(super) fn current(&self) -> &Address {
        let home = || &self.configured[self.at % self.configured.len()];
        self.away.as_ref().unwrap_or_else(home)
    }

    /// Moves on from a member that has answered before it failed, or has not.
    pub(super) fn advance(&mut self, has_answered: bool) {
        self.misses = if has_answered { 1 } else { self.misses + 1 };
        let beyond = self.misses.checked_sub(self.configured.len());
        self.away = beyond.and_then(|beyond| self.learned.get(beyond).cloned());
        if self.away.is_none() {
            self.at += 1;
            if beyond.is_some_and(|beyond| beyond > 0) {
                self.misses = 0;
            }
        }
    }

    /// All that there are to try.
    pub(super) fn members(&self) -> Vec<Address> {
        self.configured
            .iter()
            .chain(&self.learned)
            .cloned()
            .collect()
    }

    /// How many there are to try.
    pub(super) fn len(&self) -> usize {
        self.configured.len() + self.learned.len()
    }

    pub(super) fn is_configured(&self, member: &Address) -> bool {
        self.configured.contains(member)
    }

    pub(super) fn has_learned(&self, member: &Address) -> bool {
        self.learned.contains(member)
    }

    /// Has these for those that were learned before.
    pub(super) fn learn(&mut self, mut members: Vec<Address>) {
        fastrand::shuffle(&mut members);
        self.learned = members;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Address, Order};

    fn members(ports: std::ops::Range<u16>) -> Vec<Address> {
        let member = |port| Address::new(&format!("h:{port}")).expect("an address");
        ports.map(member).collect()
    }

    /// The ports of those that are used one after another when none answers.
    fn tried(order: &mut Order, count: usize) -> Vec<u16> {
        let tried = (0..count).map(|_| {
            let port = order.current().port().expect("a port");
            order.advance(false);
            port
        });
        tried.collect()
    }

    #[test]
    fn those_that_were_configured_come_first_in_each_round_and_then_those_that_were_learned() {
        let mut order = Order::new(members(1..4));
        order.learn(members(4..6));
        for _ in 0..3 {
            let round = tried(&mut order, 5);
            let set = |ports: &[u16]| ports.iter().copied().collect::<HashSet<_>>();
            assert_eq!(set(&round[..3]), [1, 2, 3].into(), "{round:?}");
            assert_eq!(set(&round[3..]), [4, 5].into(), "{round:?}");
        }
    }

    #[test]
    fn without_any_learned_the_configured_ones_take_turns() {
        let mut order = Order::new(members(1..4));
        let first = tried(&mut order, 3);
        for _ in 0..3 {
            assert_eq!(tried(&mut order, 3), first);
        }
    }

    #[test]
    fn who_has_answered_begins_a_new_round() {
        let mut order = Order::new(members(1..3));
        order.learn(members(3..4));
        for _ in 0..10 {
            order.advance(true);
            assert!(order.is_configured(order.current()));
        }
        order.advance(false);
        assert!(order.has_learned(order.current()));
        order.learn(Vec::new());
        let current = order.current().clone();
        assert!(!order.is_configured(&current), "it is used until it fails");
        order.advance(true);
        assert!(order.is_configured(order.current()));
    }
}
