use proptest::prelude::*;

use super::{decode, encode};
use crate::{
    Address, Incarnation, Instance, InstanceId, ServiceName, Status, Weight, Zone,
    dialect::{DecodeError, Dialect, DialectName},
};

fn greeter() -> ServiceName {
    ServiceName::new("greeter").expect("a name")
}

fn id() -> InstanceId {
    InstanceId::new("10.0.0.7:50051").expect("an id")
}

fn plain() -> Instance {
    Instance::new(
        greeter(),
        Address::new("10.0.0.7:50051").expect("an address"),
    )
}

fn read(value: &str) -> Result<Instance, String> {
    decode(&greeter(), id(), value.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn an_instance_with_nothing_to_add_is_what_go_writes() {
    assert_eq!(
        String::from_utf8(encode(&plain())).expect("text"),
        r#"{"Op":0,"Addr":"10.0.0.7:50051","Metadata":null}"#
    );
}

#[test]
fn what_this_project_adds_is_a_string() {
    let full = plain()
        .with_id(InstanceId::new("greeter-0").expect("an id"))
        .with_weight(Weight::new(3).expect("a weight"))
        .with_zone(Zone::new("eu-1").expect("a zone"))
        .with_version("v2")
        .with_status(Status::Draining)
        .with_label("tier", "gold")
        .with_incarnation(Incarnation::parse("00000000000000ff").expect("an incarnation"));
    assert_eq!(
        String::from_utf8(encode(&full)).expect("text"),
        concat!(
            r#"{"Op":0,"Addr":"10.0.0.7:50051","Metadata":"{\"v\":1,\"id\":\"greeter-0\",\"weight\":3,\"zone\":\"eu-1\","#,
            r#"\"version\":\"v2\",\"status\":\"draining\",\"labels\":{\"tier\":\"gold\"},\"incarnation\":\"00000000000000ff\"}"}"#
        )
    );
}

#[test]
fn values_of_other_writers_are_read_as_go_reads_them() {
    for value in [
        r#"{"Op":0,"Addr":"10.0.0.7:50051","Metadata":null}"#,
        r#"{"Op":1,"Addr":"10.0.0.7:50051"}"#,
        r#"{"addr":"10.0.0.7:50051","METADATA":null,"extra":{"a":[1,{}]}}"#,
        r#" {"ADDR":"elsewhere:1", "aDdR" : "10.0.0.7:50051" } "#,
    ] {
        assert_eq!(read(value).expect(value), plain());
    }
}

#[test]
fn metadata_that_is_not_ours_is_kept_word_for_word() {
    for (metadata, kept) in [
        (r#""gold""#, "gold"),
        (r#""{\"weight\":3}""#, r#"{"weight":3}"#),
        (r#"{"b": 1, "a":[ ]}"#, r#"{"b": 1, "a":[ ]}"#),
        ("[1,2]", "[1,2]"),
        ("7", "7"),
    ] {
        let value = format!(r#"{{"Addr":"10.0.0.7:50051","Metadata":{metadata}}}"#);
        let instance = read(&value).expect(&value);
        assert_eq!(instance.foreign_metadata.as_deref(), Some(kept));
        assert_eq!(
            decode(&greeter(), id(), &encode(&instance)).expect("ours"),
            instance
        );
    }
}

#[test]
fn fields_of_a_later_version_are_ignored() {
    let value =
        r#"{"Addr":"10.0.0.7:50051","Metadata":"{\"v\":2,\"weight\":3,\"colour\":\"red\"}"}"#;
    let expected = plain().with_weight(Weight::new(3).expect("a weight"));
    assert_eq!(read(value), Ok(expected));
}

#[test]
fn the_key_says_the_id() {
    let value = r#"{"Addr":"10.0.0.7:50051","Metadata":"{\"v\":1,\"id\":\"other\"}"}"#;
    assert_eq!(read(value).expect("an instance").id, id());
}

#[test]
fn what_is_no_instance_is_refused_with_its_reason() {
    let deep = format!(
        r#"{{"Addr":"a:1","Metadata":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(read(&deep).is_ok(), "what is not ours is not looked into");
    let unclosed = "[".repeat(1_000_000);
    let huge = format!(r#"{{"Addr":"{}:1"}}"#, "a".repeat(1_000_000));
    for (value, reason) in [
        ("", "EOF"),
        ("10.0.0.7:50051", "an object"),
        ("[]", "an object"),
        ("{}", "no address"),
        (r#"{"Addr":null}"#, "no address"),
        (r#"{"Addr":7}"#, "string"),
        (r#"{"Addr":"unix:run/a"}"#, "unix:run/a"),
        (
            r#"{"Addr":"a:1","Metadata":"{\"v\":1,\"weight\":0}"}"#,
            "weight",
        ),
        (
            r#"{"Addr":"a:1","Metadata":"{\"v\":1,\"status\":\"x\"}"}"#,
            "status",
        ),
        (&unclosed, "an object"),
        (&huge, "1000002 bytes"),
    ] {
        let error = read(value).expect_err(reason);
        assert!(error.contains(reason), "{error}");
        assert!(error.len() < 1_000, "an error is for a person to read");
    }
    let not_utf8 = b"{\"Addr\":\"\xff:1\"}";
    assert!(decode(&greeter(), id(), not_utf8).is_err());
}

#[test]
fn a_key_belongs_to_the_service_before_its_last_segment() {
    let dialect = Dialect::from(DialectName::Etcd);
    let service = |name: &str| Some(ServiceName::new(name).expect("a name"));
    assert_eq!(dialect.service_of(b"greeter/a:1"), service("greeter"));
    assert_eq!(dialect.service_of(b"shop/basket/0"), service("shop/basket"));
    for other in [
        &b"greeter"[..],
        b"/a",
        b"greeter/",
        b"_intent/greeter/a",
        b"a//b",
        b"\xff/a",
    ] {
        assert_eq!(dialect.service_of(other), None);
    }
    let read = |suffix| dialect.decode(&greeter(), suffix, &encode(&plain()));
    assert_eq!(read(b"10.0.0.7:50051").expect("an instance").id, id());
    assert!(matches!(read(b"bar/a:1"), Err(DecodeError::AnotherService)));
    for bad in [&b""[..], b"a b", b"\xff", b"_x"] {
        assert!(
            matches!(read(bad), Err(DecodeError::InvalidKey { .. })),
            "{bad:?}"
        );
    }
}

fn addresses() -> impl Strategy<Value = Vec<Address>> {
    let address = prop_oneof!["[a-z][a-z0-9.-]{0,20}", "\\[::[1-9a-f]\\]"]
        .prop_flat_map(|host| (Just(host), 1..=u16::MAX))
        .prop_map(|(host, port)| format!("{host}:{port}"))
        .boxed()
        .prop_union("unix:(/[a-z_.-]{1,9}){1,3}".boxed())
        .prop_map(|text| Address::new(&text).expect("an address"));
    prop::collection::vec(address, 1..4)
}

prop_compose! {
    fn instances()(
        addresses in addresses(),
        id in prop::option::of("[A-Za-z0-9-][A-Za-z0-9_-]{0,30}"),
        weight in 1_u32..1_000_000,
        zone in prop::option::of("[a-z0-9]{1,9}"),
        version in prop::option::of(".*"),
        labels in prop::collection::btree_map(".*", ".*", 0..4),
        status in prop::sample::select(vec![Status::Serving, Status::NotServing, Status::Draining]),
        incarnation in prop::option::of("[1-9a-f][0-9a-f]{0,15}"),
        foreign in prop::option::of(".*"),
    ) -> Instance {
        let first = Instance::new(greeter(), addresses[0].clone());
        Instance {
            id: id.map_or(first.id.clone(), |id| InstanceId::new(&id).expect("an id")),
            addresses: addresses.into(),
            weight: Weight::new(weight).expect("a weight"),
            zone: zone.map(|zone| Zone::new(&zone).expect("a zone")),
            version: version.map(Into::into),
            labels: labels.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            status,
            incarnation: incarnation.map(|text| Incarnation::parse(&text).expect("an incarnation")),
            foreign_metadata: foreign.map(Into::into),
            ..first
        }
    }
}

proptest! {
    #[test]
    fn every_instance_survives(instance in instances()) {
        let read = decode(&instance.service, instance.id.clone(), &encode(&instance));
        prop_assert_eq!(read.expect("our own value"), instance);
    }

}
