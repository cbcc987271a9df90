//! What a dialect's format can carry comes back; the rest is as if it had never been said.

use std::collections::BTreeMap;

use proptest::prelude::*;
use registry::{
    Address, Incarnation, Instance, InstanceId, ServiceName, Status, Weight, Zone,
    dialect::{Dialect, DialectName, Slot},
};

use crate::support::all;

/// What an instance is taken for when it has a label of that name.
const TAKEN: [&str; 4] = ["weight", "zone", "version", "incarnation"];

fn addresses() -> impl Strategy<Value = Vec<Address>> {
    let host = prop_oneof!["[a-z][a-z0-9.-]{0,20}", "\\[::[1-9a-f]\\]"];
    let address = (host, 1..=u16::MAX)
        .prop_map(|(host, port)| format!("{host}:{port}"))
        .boxed()
        .prop_union("unix:(/[a-z_.-]{1,9}){1,3}".boxed())
        .prop_map(|text| Address::new(&text).expect("an address"));
    prop::collection::vec(address, 1..4)
}

fn services() -> impl Strategy<Value = ServiceName> {
    "[a-z][a-z0-9_.-]{0,9}(/[a-z][a-z0-9_.-]{0,9}){0,2}"
        .prop_map(|name| ServiceName::new(&name).expect("a name"))
}

prop_compose! {
    fn instances()(
        service in services(),
        addresses in addresses(),
        id in prop::option::of("[A-Za-z0-9-][A-Za-z0-9_-]{0,30}"),
        weight in 1_u32..=1_000_000,
        zone in prop::option::of("[a-z0-9]{1,9}"),
        version in prop::option::of(".+"),
        labels in prop::collection::btree_map(".*", ".*", 0..4),
        incarnation in prop::option::of("[1-9a-f][0-9a-f]{0,15}"),
    ) -> Instance {
        let mut addresses = addresses.into_iter();
        let first = addresses.next().expect("at least one");
        let mut instance = Instance::new(service, first)
            .with_more_addresses(addresses)
            .with_weight(Weight::new(weight).expect("a weight"));
        if let Some(id) = id {
            instance.id = InstanceId::new(&id).expect("an id");
        }
        instance.zone = zone.map(|zone| Zone::new(&zone).expect("a zone"));
        instance.version = version.map(Into::into);
        instance.incarnation = incarnation.and_then(|text| Incarnation::parse(&text));
        let labels = labels.into_iter().filter(|(name, _)| !TAKEN.contains(&name.as_str()));
        instance.labels = labels.map(|(name, text)| (name.into(), text.into())).collect();
        instance
    }
}

/// What is left of an instance in a dialect.
fn carried(dialect: DialectName, instance: &Instance) -> Instance {
    let Instance { service, .. } = instance;
    let bare = Instance::new(service.clone(), instance.address().clone());
    let more = instance.addresses().iter().skip(1).cloned();
    let without_id = instance.clone().with_id(bare.id.clone());
    match dialect {
        DialectName::Etcd => instance.clone(),
        DialectName::GoZero | DialectName::Plain => bare,
        DialectName::Kratos => with_one_address(instance).with_more_addresses(more),
        DialectName::Kitex => with_one_address(&without_id),
        _ => with_one_address(instance),
    }
}

fn with_one_address(instance: &Instance) -> Instance {
    let bare = Instance::new(instance.service.clone(), instance.address().clone());
    let mut one = bare
        .with_id(instance.id.clone())
        .with_weight(instance.weight);
    one.zone.clone_from(&instance.zone);
    one.version.clone_from(&instance.version);
    one.labels.clone_from(&instance.labels);
    one.incarnation = instance.incarnation;
    one
}

fn round_trip(dialect: &Dialect, instance: &Instance, slot: Slot) -> Instance {
    let written = dialect.encode(instance, slot).expect("it serves");
    let prefix = dialect.service_prefix(&instance.service);
    let suffix = written.key.strip_prefix(&prefix).expect("a key of it");
    let read = dialect.decode(&instance.service, suffix.as_bytes(), &written.value);
    read.expect("our own value")
}

proptest! {
    #[test]
    fn what_a_format_can_carry_comes_back(instance in instances(), slot in 1..=u64::MAX >> 1) {
        let slot = Slot::new(slot).expect("a slot");
        for dialect in all() {
            let read = round_trip(&dialect, &instance, slot);
            prop_assert_eq!(read, carried(dialect.name(), &instance), "{}", dialect.name());
        }
    }

    #[test]
    fn the_key_of_an_instance_is_its_service_s(instance in instances()) {
        for dialect in all() {
            let written = dialect.encode(&instance, Slot::random()).expect("it serves");
            let dashed = || ServiceName::new(&instance.service.as_str().replace('/', "-"));
            let service = match dialect.name() {
                DialectName::GoMicro => dashed().expect("a name"),
                _ => instance.service.clone(),
            };
            prop_assert_eq!(dialect.service_of(written.key.as_bytes()), Some(service));
        }
    }

    #[test]
    fn another_prefix_changes_nothing_but_the_beginning_of_the_key(instance in instances()) {
        let slot = Slot::random();
        for dialect in all() {
            let before = dialect.encode(&instance, slot).expect("it serves");
            let moved = dialect.clone().with_prefix("/some/where").expect("a prefix");
            let after = moved.encode(&instance, slot).expect("it serves");
            let below = before.key.strip_prefix(dialect.prefix()).expect("its prefix");
            let below = below.strip_prefix('/').unwrap_or(below);
            prop_assert_eq!(&after.key, &format!("/some/where/{below}"));
            prop_assert_eq!(after.value, before.value);
        }
    }

    #[test]
    fn what_does_not_serve_is_written_only_where_that_can_be_said(instance in instances()) {
        for status in [Status::Draining, Status::NotServing] {
            let instance = instance.clone().with_status(status);
            let slot = Slot::random();
            let written = all().filter(|dialect| dialect.encode(&instance, slot).is_some());
            let names: Vec<_> = written.map(|dialect| dialect.name()).collect();
            prop_assert_eq!(names, [DialectName::Etcd]);
        }
    }

    #[test]
    fn no_bytes_panic(
        suffix in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let service = ServiceName::new("greeter").expect("a name");
        for dialect in all() {
            let _ = dialect.decode(&service, &suffix, &value);
            let _ = dialect.service_of(&suffix);
        }
    }

    #[test]
    fn no_json_panics(value in json(), suffix in "[a-z0-9/@:.-]{0,20}") {
        let service = ServiceName::new("greeter").expect("a name");
        for dialect in all() {
            let _ = dialect.decode(&service, suffix.as_bytes(), value.to_string().as_bytes());
        }
    }
}

/// Objects of the names that there are, in which anything may stand.
fn json() -> impl Strategy<Value = serde_json::Value> {
    const NAMES: &str = "addr|Address|metadata|MetaData|tags|weight|name|Name|id|ID|InstanceId|version|Version|endpoints|nodes|network|Op";
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "greeter|unix|10.0.0.7:50051|grpc://10.0.0.7:1\\?isSecure=true|.{0,9}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(NAMES, inner, 0..6)
                .prop_map(|fields: BTreeMap<_, _>| fields.into_iter().collect()),
        ]
    })
}
