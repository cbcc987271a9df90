//! One running copy of a service, validated once in the constructors of its parts and never again.

mod address;
mod name;
mod origin;
mod overruled;

use std::{collections::BTreeMap, fmt, num::NonZeroU64, sync::Arc};

pub use address::Address;
pub use name::{InstanceId, ServiceName, Zone};
pub use origin::Origin;
pub(crate) use origin::Provenance;
use overruled::Overruled;

use crate::{Intent, Revision};

/// Why a name, an id, an address or a weight was refused. The text names the value and says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {problem}; {allowed}")]
pub struct InvalidInstance {
    what: &'static str,
    value: String,
    problem: String,
    allowed: &'static str,
}

impl InvalidInstance {
    fn new(
        what: &'static str,
        value: &str,
        problem: impl Into<String>,
        allowed: &'static str,
    ) -> Self {
        // A hostile value may be megabytes long; an error is read by a person.
        let value = if value.chars().count() > 80 {
            value.chars().take(77).chain("...".chars()).collect()
        } else {
            value.to_owned()
        };
        Self {
            what,
            value,
            problem: problem.into(),
            allowed,
        }
    }
}

/// What an instance says of itself, or an operator of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Status {
    /// Takes calls.
    #[default]
    Serving,
    /// Alive, and cannot answer for now.
    NotServing,
    /// Alive, finishing what it has, to be given nothing new.
    Draining,
}

impl Status {
    pub(crate) const ALL: [Self; 3] = [Self::Serving, Self::NotServing, Self::Draining];

    /// The status of that word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// The word that is written into registries: `serving`, `not_serving` or `draining`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::NotServing => "not_serving",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The share of calls an instance should get, relative to the others: 1 to 1,000,000, by default 1.
///
/// ```
/// use registry::Weight;
/// assert_eq!(Weight::new(5)?.get(), 5);
/// assert!(Weight::new(0).is_err());
/// # Ok::<(), registry::InvalidInstance>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    pub(crate) const MAX: u32 = 1_000_000;

    /// A weight of `weight`, or the reason why there is none.
    pub fn new(weight: u32) -> Result<Self, InvalidInstance> {
        if (1..=Self::MAX).contains(&weight) {
            Ok(Self(weight))
        } else {
            let allowed = "a weight is a whole number from 1 to 1000000";
            Err(InvalidInstance::new(
                "weight",
                &weight.to_string(),
                "is out of range",
                allowed,
            ))
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

/// One start of one process: two starts of the same instance differ in it.
///
/// It is drawn at random and only ever compared for equality, so no clock is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(NonZeroU64);

impl Incarnation {
    /// A new one.
    pub fn random() -> Self {
        Self(NonZeroU64::new(fastrand::u64(1..)).expect("the range starts at 1"))
    }

    /// Reads what [`Display`](fmt::Display) writes: 1 to 16 hexadecimal digits, not all zero.
    pub fn parse(text: &str) -> Option<Self> {
        // `from_str_radix` alone would take "+f", and any number of leading zeros.
        let digits = text.len() <= 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok())??;
        NonZeroU64::new(number).map(Self)
    }

    /// The number, never 0.
    pub(crate) fn number(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One running copy of a service.
///
/// ```
/// use registry::{Address, Instance, ServiceName, Weight};
///
/// let greeter = Instance::new(ServiceName::new("greeter")?, Address::new("10.0.0.7:50051")?)
///     .with_weight(Weight::new(3)?)
///     .with_label("tier", "gold");
/// assert_eq!(greeter.id.as_str(), "10.0.0.7:50051");
/// # Ok::<(), registry::InvalidInstance>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// The service that it is a copy of.
    pub service: ServiceName,
    /// What tells it from the service's other instances; by default its address.
    pub id: InstanceId,
    /// Where it answers, the preferred address first; never empty.
    pub(crate) addresses: Arc<[Address]>,
    /// Its share of the calls: what an operator [wants](Self::intent), else what it says itself.
    pub weight: Weight,
    /// Where it runs, in whatever names the operator uses for that.
    pub zone: Option<Zone>,
    /// Which version of the service it is.
    pub version: Option<Arc<str>>,
    /// Whatever else callers may select by.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Whether it takes calls: what an operator [wants](Self::intent), else what it says itself.
    pub status: Status,
    /// Which start of the process it is; `None` when whoever registered it does not say.
    pub incarnation: Option<Incarnation>,
    /// What software other than ours attached to it, word for word.
    pub foreign_metadata: Option<Arc<str>>,
    /// Where it was read; two instances are equal whatever that is.
    pub(crate) provenance: Provenance,
    /// What an operator wanted of it before the store lost that; never that nothing is wanted.
    pub(crate) carried: Option<Arc<Intent>>,
    /// What an operator wants of it, and what that overrules.
    pub(crate) overruled: Option<Arc<Overruled>>,
}

impl Instance {
    /// An instance of `service` that answers at `address`, with its address for an id and the defaults for the rest.
    pub fn new(service: ServiceName, address: Address) -> Self {
        Self {
            service,
            id: InstanceId::from(&address),
            addresses: Arc::new([address]),
            weight: Weight::default(),
            zone: None,
            version: None,
            labels: BTreeMap::new(),
            status: Status::default(),
            incarnation: None,
            foreign_metadata: None,
            provenance: Provenance::default(),
            carried: None,
            overruled: None,
        }
    }

    /// Where it was read; `None` for one that was made here, or given in a target.
    ///
    /// No part of what it is: what is written anew, word for word, is no change.
    pub fn origin(&self) -> Option<&Origin> {
        self.provenance.origin()
    }

    /// The same instance as read at that place.
    pub(crate) fn read_at(mut self, key: impl Into<Arc<str>>, revision: Revision) -> Self {
        self.provenance = Provenance::new(key, revision);
        self
    }

    /// Where it answers, the preferred address first; never empty.
    pub fn addresses(&self) -> &Arc<[Address]> {
        &self.addresses
    }

    /// The address to try first.
    pub fn address(&self) -> &Address {
        &self.addresses[0]
    }

    /// The same instance under another id.
    pub fn with_id(mut self, id: InstanceId) -> Self {
        self.id = id;
        self
    }

    /// The same instance under the id that other software gave it, if it can be one here; else it keeps its own.
    pub(crate) fn with_foreign_id(self, id: &str) -> Self {
        match InstanceId::new(id) {
            Ok(id) => self.with_id(id),
            Err(_) => self,
        }
    }

    /// The same instance with further addresses to try when the first does not answer.
    pub fn with_more_addresses(mut self, more: impl IntoIterator<Item = Address>) -> Self {
        self.addresses = self.addresses.iter().cloned().chain(more).collect();
        self
    }

    /// The same instance with another weight of its own; it is left to [itself](Self::itself).
    pub fn with_weight(self, weight: Weight) -> Self {
        Self {
            weight,
            ..self.itself()
        }
    }

    /// The same instance in a zone.
    pub fn with_zone(mut self, zone: Zone) -> Self {
        self.zone = Some(zone);
        self
    }

    /// The same instance with a version.
    pub fn with_version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// The same instance with one more label.
    pub fn with_label(mut self, name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// The same instance with another status of its own; it is left to [itself](Self::itself).
    pub fn with_status(self, status: Status) -> Self {
        Self {
            status,
            ..self.itself()
        }
    }

    /// The same instance as one certain start of its process.
    pub fn with_incarnation(mut self, incarnation: Incarnation) -> Self {
        self.incarnation = Some(incarnation);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Incarnation, Instance, Status, Weight};
    use crate::{Address, Intent, Revision, ServiceName};

    #[test]
    fn an_incarnation_is_1_to_16_hexadecimal_digits_and_not_zero() {
        let incarnation = Incarnation::random();
        let text = incarnation.to_string();
        assert_eq!(Incarnation::parse(&text), Some(incarnation));
        assert!(Incarnation::parse("f").is_some());
        for bad in ["", "0", "+f", "-1", "0x1", "g", " f", "0000000000000000f"] {
            assert_eq!(Incarnation::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_said_anew_of_an_instance_that_was_drained_is_what_it_says_itself() {
        let service = ServiceName::new("greeter").expect("a name");
        let itself = Instance::new(service, Address::new("10.0.0.7:1").expect("an address"));
        let draining = Intent::from(Status::Draining);
        let drained = Instance::under(&Arc::new(itself.clone()), Some(&draining));
        let heavy = Weight::new(5).expect("a weight");
        for (said, expected) in [
            (
                Instance::clone(&drained).with_weight(heavy),
                itself.clone().with_weight(heavy),
            ),
            (
                Instance::clone(&drained).with_status(Status::NotServing),
                itself.with_status(Status::NotServing),
            ),
        ] {
            assert_eq!(said, expected);
            assert_eq!(said.clone().itself(), said);
        }
    }

    #[test]
    fn where_an_instance_was_read_is_no_part_of_it() {
        let service = ServiceName::new("greeter").expect("a name");
        let made = Instance::new(service, Address::new("10.0.0.7:1").expect("an address"));
        let read = made.clone().read_at("greeter/10.0.0.7:1", Revision(7));
        assert_eq!(read, made);
        assert_eq!(made.origin(), None);
        let origin = read.origin().expect("it was read");
        assert_eq!(
            (&*origin.key, origin.revision),
            ("greeter/10.0.0.7:1", Revision(7))
        );
    }
}
