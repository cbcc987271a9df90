//! How calls ended, and who answered them.

use std::collections::{BTreeMap, HashMap};

use registry::Address;
use tonic::{Code, Status};

/// What came of one call.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The greeting, and which instance sent it.
    Answered {
        greeting: String,
        by: Option<Address>,
    },
    Failed(Status),
}

impl Outcome {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Answered { .. } => Code::Ok,
            Self::Failed(status) => status.code(),
        }
    }
}

/// gRPC's own names, in the order of their numbers.
const CODE_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A code as gRPC writes it: `UNAVAILABLE`.
pub(crate) fn code_name(code: Code) -> &'static str {
    CODE_NAMES[code as usize]
}

/// How many calls ended how, and who answered them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    by_code: [u64; CODE_NAMES.len()],
    by_instance: HashMap<Address, u64>,
}

impl Counts {
    pub(crate) fn record(&mut self, outcome: &Outcome) {
        self.by_code[outcome.code() as usize] += 1;
        if let Outcome::Answered { by: Some(by), .. } = outcome {
            // The entry API would clone the address for each call.
            match self.by_instance.get_mut(by) {
                Some(calls) => *calls += 1,
                None => drop(self.by_instance.insert(by.clone(), 1)),
            }
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.by_code.iter_mut().zip(other.by_code) {
            *mine += theirs;
        }
        for (instance, calls) in &other.by_instance {
            *self.by_instance.entry(instance.clone()).or_default() += calls;
        }
    }

    /// What was counted after `earlier`, an older state of these counts; instances without a call since are left out.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut new = self.clone();
        for (now, before) in new.by_code.iter_mut().zip(earlier.by_code) {
            *now -= before;
        }
        new.by_instance.retain(|instance, calls| {
            *calls -= earlier.by_instance.get(instance).unwrap_or(&0);
            *calls > 0
        });
        new
    }

    pub(crate) fn calls(&self) -> u64 {
        self.by_code.iter().sum()
    }

    pub(crate) fn failures(&self) -> u64 {
        self.calls() - self.by_code[Code::Ok as usize]
    }

    /// Calls by instance, in the order of addresses.
    pub(crate) fn instances(&self) -> BTreeMap<&str, u64> {
        self.by_instance
            .iter()
            .map(|(address, calls)| (address.as_str(), *calls))
            .collect()
    }

    /// Calls by the name of the status that they ended with, where there are any.
    pub(crate) fn statuses(&self) -> BTreeMap<&'static str, u64> {
        CODE_NAMES
            .into_iter()
            .zip(self.by_code)
            .filter(|(_, calls)| *calls > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(by: &str) -> Outcome {
        Outcome::Answered {
            greeting: "Hello".into(),
            by: Some(Address::new(by).expect("an address")),
        }
    }

    #[test]
    fn every_code_has_its_own_name() {
        for number in 0..17 {
            let code = Code::from_i32(number);
            assert_eq!(code as i32, number);
            let debug = format!("{code:?}").to_uppercase();
            assert_eq!(code_name(code).replace('_', ""), debug);
        }
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let mut earlier = Counts::default();
        earlier.record(&answered("a:1"));
        let mut now = earlier.clone();
        now.record(&answered("b:1"));
        now.record(&Outcome::Failed(Status::internal("")));
        let since = now.since(&earlier);
        assert_eq!((since.calls(), since.failures()), (2, 1));
        assert_eq!(since.instances(), BTreeMap::from([("b:1", 1)]));
    }
}
