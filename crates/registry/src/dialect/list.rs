//! Several dialects, in the order of who wins.

use std::{fmt, str::FromStr, sync::Arc};

use super::{Dialect, DialectName, InvalidDialect, Slot, Written};
use crate::{Address, Instance, ServiceName};

/// The dialects that a registration is written in and a discovery reads, the first one winning: at least one, none twice,
/// and no two that write the same keys. As text they are in a row, with commas.
///
/// ```
/// use registry::dialect::{DialectName, Dialects};
/// let dialects: Dialects = "etcd,kratos=/shop".parse()?;
/// assert_eq!(dialects.iter().last().unwrap().prefix(), "/shop");
/// assert_eq!(dialects.to_string(), "etcd,kratos=/shop");
/// # Ok::<(), registry::dialect::InvalidDialect>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialects(Arc<[Dialect]>);

impl Dialects {
    /// These dialects, the first one winning.
    ///
    /// ```
    /// use registry::dialect::{Dialect, DialectName, Dialects};
    /// let kratos = Dialect::from(DialectName::Kratos).with_prefix("/shop")?;
    /// Dialects::new([DialectName::Etcd.into(), kratos])?;
    /// assert!(Dialects::new([DialectName::Etcd, DialectName::Etcd]).is_err());
    /// # Ok::<(), registry::dialect::InvalidDialect>(())
    /// ```
    pub fn new(
        dialects: impl IntoIterator<Item = impl Into<Dialect>>,
    ) -> Result<Self, InvalidDialect> {
        let dialects: Arc<[Dialect]> = dialects.into_iter().map(Into::into).collect();
        if dialects.is_empty() {
            return Err(InvalidDialect::None);
        }
        let (example, slot) = example();
        let written: Vec<_> = dialects.iter().map(|d| d.encode(&example, slot)).collect();
        for (number, dialect) in dialects.iter().enumerate() {
            let before = dialects.iter().zip(&written).take(number);
            let same_key = |other: &&Option<Written>| {
                other.as_ref().map(|w| &w.key) == written[number].as_ref().map(|w| &w.key)
            };
            for (other, theirs) in before {
                if other.name() == dialect.name() {
                    return Err(InvalidDialect::Twice(dialect.name()));
                }
                if same_key(&theirs) {
                    return Err(InvalidDialect::SameKeys(other.name(), dialect.name()));
                }
            }
        }
        Ok(Self(dialects))
    }

    /// Each of them, the first one winning.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Dialect> {
        self.0.iter()
    }

    /// What is to stand in etcd for an instance: a key and a value for each dialect, in their order, no key twice.
    ///
    /// While the instance drains or does not serve, those dialects that have no status write nothing, so that fewer are
    /// returned: their keys are to be deleted, and put back when it serves again. The default dialect
    /// [`Etcd`](DialectName::Etcd) says what the status is and keeps its key; without it nothing may be left at all. The
    /// keys of an instance that serves are always the same for the same service, id, version, address and `slot`, so that
    /// a registration has to keep its slot for as long as it lives.
    pub fn written(&self, instance: &Instance, slot: Slot) -> Vec<Written> {
        let each = self.iter().filter_map(|d| d.encode(instance, slot));
        each.collect()
    }
}

/// The default dialect alone.
impl Default for Dialects {
    fn default() -> Self {
        Self(Arc::new([DialectName::default().into()]))
    }
}

impl fmt::Display for Dialects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, dialect) in self.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{dialect}")?;
        }
        Ok(())
    }
}

/// Blanks around a name are passed over.
impl FromStr for Dialects {
    type Err = InvalidDialect;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = text.split(',').map(str::trim);
        let named = named.filter(|name| !name.is_empty()).map(str::parse);
        Self::new(named.collect::<Result<Vec<Dialect>, _>>()?)
    }
}

/// Some instance that serves.
fn example() -> (Instance, Slot) {
    let service = ServiceName::new("s").expect("a name");
    let address = Address::new("h:1").expect("an address");
    (
        Instance::new(service, address),
        Slot::new(1).expect("a number"),
    )
}

#[cfg(test)]
mod tests {
    use super::{Dialect, DialectName, Dialects, InvalidDialect, Slot, example};
    use crate::Status;

    #[test]
    fn all_can_be_used_at_once_as_their_own_software_has_them() {
        let all = Dialects::new(DialectName::ALL).expect("they are apart");
        let (instance, slot) = example();
        assert_eq!(all.written(&instance, slot).len(), DialectName::ALL.len());
    }

    #[test]
    fn who_cannot_say_that_it_drains_writes_nothing_when_it_does() {
        let dialects = Dialects::new(DialectName::ALL).expect("they are apart");
        let (instance, slot) = example();
        for status in [Status::Draining, Status::NotServing] {
            let instance = instance.clone().with_status(status);
            let keys: Vec<_> = dialects.written(&instance, slot);
            assert_eq!(keys.len(), 1);
            assert_eq!(keys[0].key, "s/h:1");
        }
        for (asked, keys) in [
            (Status::Draining, 1),
            (Status::NotServing, 1),
            (Status::Serving, DialectName::ALL.len()),
        ] {
            let carrying = instance.clone().with_status(Status::Draining);
            let carrying = carrying.carrying(Some(&asked.into()));
            assert_eq!(dialects.written(&carrying, slot).len(), keys, "{asked}");
        }
        let foreign = Dialects::new([DialectName::Kratos]).expect("one is enough");
        let draining = instance.with_status(Status::Draining);
        assert_eq!(foreign.written(&draining, Slot::random()), []);
    }

    #[test]
    fn dialects_are_read_and_written_as_text() {
        for (text, written) in [
            ("etcd", "etcd"),
            (" go-zero , etcd", "go-zero,etcd"),
            ("kratos=/microservices,plain=p", "kratos,plain=p"),
            ("qsf=", "qsf="),
        ] {
            let dialects: Dialects = text.parse().expect(text);
            assert_eq!(dialects.to_string(), written);
            assert_eq!(written.parse(), Ok(dialects));
        }
        for (bad, problem) in [
            ("", "no dialect is named"),
            (",", "no dialect is named"),
            (
                "consul",
                "etcd, qsf, grpc-lb, go-zero, kratos, kitex, go-micro, gopherex, plain",
            ),
            ("etcd,etcd", "twice"),
            ("kratos=/", "\"/\""),
            ("kratos=,gopherex=", "same keys"),
        ] {
            let refused = bad.parse::<Dialects>().expect_err(bad).to_string();
            assert!(refused.contains(problem), "{refused}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let with = |name: DialectName, prefix| {
            Dialect::from(name)
                .with_prefix(prefix)
                .expect("a good prefix")
        };
        let none: [DialectName; 0] = [];
        assert_eq!(Dialects::new(none), Err(InvalidDialect::None));
        let twice = [with(DialectName::Qsf, "a"), with(DialectName::Qsf, "b")];
        assert_eq!(
            Dialects::new(twice),
            Err(InvalidDialect::Twice(DialectName::Qsf))
        );
        let same = [
            DialectName::Etcd.into(),
            DialectName::Plain.into(),
            with(DialectName::Kratos, ""),
        ];
        let refused = InvalidDialect::SameKeys(DialectName::Etcd, DialectName::Kratos);
        assert_eq!(Dialects::new(same), Err(refused));
    }
}
