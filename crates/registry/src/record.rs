//! The persisted form of an instance: JSON, apart from the domain type, so that each can change without the other.
//!
//! Every field but `v` is present only when it differs from its default, and a field that is not known is ignored, so
//! that a later version can be read. The etcd dialect carries it as the text of `Metadata`; the file backend as a file.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Address, Incarnation, Instance, InstanceId, Intent, InvalidInstance, InvalidIntent,
    ServiceName, Status, Weight, Zone, instance::Provenance, intent::Wanted,
};

const VERSION: u32 = 1;

/// An instance as it is written down, less its service, which is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<Arc<str>, Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incarnation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Wanted>,
}

/// What keeps a record from being an instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidRecord {
    #[error("it has no address")]
    NoAddress,
    #[error("its status is {0:?}; a status is serving, not_serving or draining")]
    Status(String),
    #[error("its incarnation is {0:?}; an incarnation is 1 to 16 hexadecimal digits")]
    Incarnation(String),
    #[error("what is asked of it is no intent: {0}")]
    Asked(#[source] InvalidIntent),
    #[error(transparent)]
    Part(#[from] InvalidInstance),
}

impl Record {
    /// The record of an instance, complete: its addresses are always there. It has what the instance says itself, and beside
    /// that, as `asked`, what it carries of what an operator wanted: what one wants now is written elsewhere.
    pub(crate) fn new(instance: &Instance) -> Self {
        let (status, weight) = (instance.own_status(), instance.own_weight());
        Self {
            v: VERSION,
            id: (instance.id != InstanceId::from(instance.address()))
                .then(|| instance.id.to_string()),
            weight: (weight != Weight::default()).then(|| weight.get()),
            zone: instance.zone.as_ref().map(ToString::to_string),
            version: instance.version.clone(),
            status: (status != Status::default()).then(|| status.to_string()),
            labels: instance.labels.clone(),
            addresses: instance.addresses.iter().map(ToString::to_string).collect(),
            incarnation: instance.incarnation.map(|i| i.to_string()),
            metadata: instance.foreign_metadata.clone(),
            asked: instance.carried().map(Wanted::from),
        }
    }

    /// The record less what whoever carries it says already: `address` alone is the default.
    pub(crate) fn without_address(mut self, address: &Address) -> Self {
        if self.addresses.iter().eq([address.as_str()]) {
            self.addresses.clear();
        }
        self
    }

    /// Whether it says nothing but its version.
    pub(crate) fn is_default(&self) -> bool {
        *self
            == Self {
                v: self.v,
                id: None,
                weight: None,
                zone: None,
                version: None,
                status: None,
                labels: BTreeMap::new(),
                addresses: Vec::new(),
                incarnation: None,
                metadata: None,
                asked: None,
            }
    }

    /// The record in `text`, or `None` when the text is not one.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The record as one line of JSON.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record is made of strings and numbers")
    }

    /// The instance of `service` that it describes; `address` where the record itself has none.
    pub(crate) fn into_instance(
        self,
        service: ServiceName,
        address: Option<Address>,
    ) -> Result<Instance, InvalidRecord> {
        let mut addresses = self
            .addresses
            .iter()
            .map(|a| Address::new(a))
            .collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            addresses.push(address.ok_or(InvalidRecord::NoAddress)?);
        }
        let status = match self.status {
            None => Status::default(),
            Some(text) => Status::parse(&text).ok_or(InvalidRecord::Status(text))?,
        };
        let incarnation = match self.incarnation {
            None => None,
            Some(text) => Some(Incarnation::parse(&text).ok_or(InvalidRecord::Incarnation(text))?),
        };
        let asked = self.asked.map(Intent::try_from).transpose();
        let asked = asked.map_err(InvalidRecord::Asked)?;
        let itself = Instance {
            service,
            id: match self.id {
                Some(id) => InstanceId::new(&id)?,
                None => InstanceId::from(&addresses[0]),
            },
            addresses: addresses.into(),
            weight: self.weight.map_or(Ok(Weight::default()), Weight::new)?,
            zone: self.zone.as_deref().map(Zone::new).transpose()?,
            version: self.version,
            labels: self.labels,
            status,
            incarnation,
            foreign_metadata: self.metadata,
            provenance: Provenance::default(),
            carried: None,
            overruled: None,
        };
        Ok(itself.carrying(asked.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, option, prelude::*, sample::select};

    use super::*;

    fn segment() -> impl Strategy<Value = String> {
        "[A-Za-z0-9.-][A-Za-z0-9._-]{0,20}"
            .prop_filter("a reserved segment", |s| s != "." && s != "..")
    }

    fn address() -> impl Strategy<Value = Address> {
        let host = prop_oneof![
            segment(),
            any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
            any::<std::net::Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        ];
        (host, 1..=u16::MAX)
            .prop_map(|(host, port)| format!("{host}:{port}"))
            .boxed()
            .prop_union("unix:/[a-z][!-+.-9;->@-~]{0,20}[a-z_]".boxed())
            .prop_map(|text| Address::new(&text).expect("an address"))
    }

    fn id() -> impl Strategy<Value = InstanceId> {
        prop_oneof![
            segment().prop_map(|id| InstanceId::new(&id).expect("an id")),
            address().prop_map(|address| InstanceId::from(&address)),
        ]
    }

    fn text() -> impl Strategy<Value = Arc<str>> {
        any::<String>().prop_map(Arc::from)
    }

    prop_compose! {
        fn instance()(
            addresses in collection::vec(address(), 1..4),
            id in option::of(id()),
            weight in 1..=1_000_000_u32,
            zone in option::of(segment()),
            version in option::of(text()),
            labels in collection::btree_map(text(), text(), 0..4),
            status in select(&Status::ALL[..]),
            has_incarnation in any::<bool>(),
            foreign_metadata in option::of(text()),
            asked in option::of((option::of(select(&Status::ALL[..])), 1..=1_000_000_u32)),
        ) -> Instance {
            let asked = asked.map(|(status, weight)| {
                let weight = Some(Weight::new(weight).expect("a weight"));
                Intent::new(status, weight).expect("it wants something")
            });
            let itself = Instance {
                service: ServiceName::new("shop/basket").expect("a name"),
                id: id.unwrap_or_else(|| InstanceId::from(&addresses[0])),
                addresses: addresses.into(),
                weight: Weight::new(weight).expect("a weight"),
                zone: zone.map(|zone| Zone::new(&zone).expect("a zone")),
                version,
                labels,
                status,
                incarnation: has_incarnation.then(Incarnation::random),
                foreign_metadata,
                provenance: Provenance::default(),
                carried: None,
                overruled: None,
            };
            itself.carrying(asked.as_ref())
        }
    }

    proptest! {
        #[test]
        fn an_instance_is_read_back_as_it_was_written(instance in instance()) {
            let text = Record::new(&instance).to_json();
            let record = Record::parse(text.as_bytes()).expect("a record");
            let read = record.into_instance(instance.service.clone(), None).expect("an instance");
            prop_assert_eq!(read, instance);
        }

        #[test]
        fn a_record_without_its_address_is_read_back_with_it(instance in instance()) {
            let address = instance.address().clone();
            let record = Record::new(&instance).without_address(&address);
            let read = record.into_instance(instance.service.clone(), Some(address)).expect("an instance");
            prop_assert_eq!(read, instance);
        }
    }

    #[test]
    fn what_a_later_version_adds_is_ignored() {
        let text = br#"{"v":2,"addresses":["10.0.0.1:1"],"added":{"later":[1]}}"#;
        let record = Record::parse(text).expect("a record");
        let service = ServiceName::new("greeter").expect("a name");
        let read = record
            .into_instance(service.clone(), None)
            .expect("an instance");
        let address = Address::new("10.0.0.1:1").expect("an address");
        assert_eq!(read, Instance::new(service, address));
    }

    #[test]
    fn what_an_operator_wants_is_no_part_of_a_record() {
        let service = ServiceName::new("greeter").expect("a name");
        let address = Address::new("10.0.0.1:1").expect("an address");
        let itself = Arc::new(Instance::new(service, address));
        let intent = Intent::from(Status::Draining).with_weight(Weight::new(7).expect("a weight"));
        let drained = Instance::under(&itself, Some(&intent));
        assert_ne!(drained, itself);
        assert_eq!(Record::new(&drained), Record::new(&itself));
    }

    #[test]
    fn what_an_operator_wanted_is_beside_what_the_instance_says_itself() {
        let service = ServiceName::new("greeter").expect("a name");
        let address = Address::new("10.0.0.1:1").expect("an address");
        let intent = Intent::from(Status::Draining).with_weight(Weight::new(3).expect("a weight"));
        let carrying = Instance::new(service.clone(), address.clone())
            .with_weight(Weight::new(7).expect("a weight"))
            .carrying(Some(&intent));
        let text = Record::new(&carrying).without_address(&address).to_json();
        let written = r#"{"v":1,"weight":7,"asked":{"status":"draining","weight":3}}"#;
        assert_eq!(text, written);
        for nothing in ["{}", r#"{"added":1}"#, "null"] {
            let text = format!(r#"{{"v":1,"asked":{nothing}}}"#);
            let record = Record::parse(text.as_bytes()).expect("a record");
            let read = record.into_instance(service.clone(), Some(address.clone()));
            let itself = Instance::new(service.clone(), address.clone());
            assert_eq!(read.expect("an instance"), itself);
        }
    }

    #[test]
    fn a_record_that_is_no_instance_says_why() {
        let service = ServiceName::new("greeter").expect("a name");
        for (text, wanted) in [
            (r#"{"v":1}"#, "no address"),
            (r#"{"v":1,"addresses":["a:1"],"status":"up"}"#, "\"up\""),
            (r#"{"v":1,"addresses":["a:1"],"incarnation":"0"}"#, "\"0\""),
            (r#"{"v":1,"addresses":["a:1"],"weight":0}"#, "weight"),
            (r#"{"v":1,"addresses":["a:1"],"id":"_"}"#, "\"_\""),
            (r#"{"v":1,"addresses":["a"]}"#, "\"a\""),
            (
                r#"{"v":1,"addresses":["a:1"],"asked":{"status":"up"}}"#,
                "\"up\"",
            ),
        ] {
            let record = Record::parse(text.as_bytes()).expect("a record");
            let refused = record.into_instance(service.clone(), None).expect_err(text);
            assert!(refused.to_string().contains(wanted), "{refused}");
        }
    }
}
