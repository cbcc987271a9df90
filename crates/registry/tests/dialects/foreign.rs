//! What the other systems' own software writes, and may write, is read as that software reads it.

use registry::{
    Incarnation, Instance, InstanceId, Weight,
    dialect::{DecodeError, Dialect, DialectName, LONGEST_VALUE},
};

use crate::support::{address, all, instance, read};

const ADDRESS: &str = "10.0.0.7:50051";

fn greeter() -> Instance {
    instance("greeter", ADDRESS)
}

fn weighing(weight: u32) -> Instance {
    greeter().with_weight(Weight::new(weight).expect("a weight"))
}

fn named(id: &str) -> Instance {
    greeter().with_id(InstanceId::new(id).expect("an id"))
}

/// Sees that each of the key-values is read as an instance of `greeter`.
fn are(dialect: DialectName, found: &[(&str, &str, Instance)]) {
    let dialect = Dialect::from(dialect);
    for (key, value, expected) in found {
        let read = read(&dialect, "greeter", key, value.as_bytes());
        assert_eq!(&read.expect(value), expected, "{key} {value}");
    }
}

/// Sees that each is refused with that reason, in words of a length for a person to read.
fn are_refused(dialect: DialectName, found: &[(&str, &str, &str)]) {
    let dialect = Dialect::from(dialect);
    for (key, value, reason) in found {
        let refused = read(&dialect, "greeter", key, value.as_bytes()).expect_err(value);
        let text = refused.to_string();
        assert!(text.contains(reason), "{key} {value}: {text}");
        assert!(text.len() < 1_000, "{text}");
    }
}

#[test]
fn qsf() {
    let key = "/qsf.service/greeter/node1";
    let metadata =
        r#"{"Addr":"10.0.0.7:50051","Metadata":{"weight":"0","Zone":"a b","zone":"a b"}}"#;
    let labelled = named("node1")
        .with_label("weight", "0")
        .with_label("Zone", "a b")
        .with_label("zone", "a b");
    are(
        DialectName::Qsf,
        &[
            (
                key,
                r#"{"addr":"10.0.0.7:50051","metadata":null}"#,
                named("node1"),
            ),
            (
                key,
                r#"{"Addr":"10.0.0.7:50051","Metadata":{}}"#,
                named("node1"),
            ),
            (key, r#"{"addr":"10.0.0.7:50051"}"#, named("node1")),
            (key, metadata, labelled),
            (
                "/qsf.service/greeter/a node",
                r#"{"addr":"10.0.0.7:50051"}"#,
                greeter(),
            ),
        ],
    );
    are_refused(
        DialectName::Qsf,
        &[
            (key, r#"{"metadata":{}}"#, "no address"),
            (
                key,
                r#"{"addr":"10.0.0.7:50051","metadata":{"weight":3}}"#,
                "string",
            ),
            (key, ADDRESS, "not of this dialect"),
            (
                "/qsf.service/greeter/",
                r#"{"addr":"10.0.0.7:50051"}"#,
                "key",
            ),
            (
                "/qsf.service/greeter/a/b",
                r#"{"addr":"10.0.0.7:50051"}"#,
                "another service",
            ),
        ],
    );
}

#[test]
fn grpc_lb() {
    let full = r#"{"InstanceId":"1","Name":"greeter","Version":"1.0","Address":"10.0.0.7:50051","Metadata":{"weight":["3","4"],"x":[],"y":null,"z":[null]}}"#;
    let mut expected = named("1").with_version("1.0").with_label("z", "");
    expected.weight = weighing(3).weight;
    let bare =
        r#"{"InstanceId":"","Name":"","Version":"","Address":"10.0.0.7:50051","Metadata":null}"#;
    are(
        DialectName::GrpcLb,
        &[
            ("/backend/services/greeter/1.0/1", full, expected),
            ("/backend/services/greeter//1", bare, named("1")),
            (
                "/backend/services/greeter/1.0/1",
                r#"{"Address":"10.0.0.7:50051"}"#,
                named("1"),
            ),
        ],
    );
    let other = r#"{"Name":"greeter/formal","Address":"10.0.0.7:50051"}"#;
    are_refused(
        DialectName::GrpcLb,
        &[
            ("/backend/services/greeter/1.0", full, "key"),
            ("/backend/services/greeter/1.0/", full, "key"),
            (
                "/backend/services/greeter/formal/1.0/1",
                other,
                "another service",
            ),
            (
                "/backend/services/greeter/formal/1.0/1",
                bare,
                "another service",
            ),
            (
                "/backend/services/greeter/1.0/1",
                r#"{"Name":"greeter"}"#,
                "no address",
            ),
            (
                "/backend/services/greeter/1.0/1",
                r#"{"Address":"10.0.0.7:50051","Metadata":{"weight":"3"}}"#,
                "not of this dialect",
            ),
        ],
    );
}

#[test]
fn go_zero() {
    are(
        DialectName::GoZero,
        &[
            ("greeter/7587862094834521857", ADDRESS, greeter()),
            ("greeter/1", "10.0.0.7:50051\n", greeter()),
        ],
    );
    are_refused(
        DialectName::GoZero,
        &[
            ("greeter/", ADDRESS, "key"),
            ("greeter/-1", ADDRESS, "number of a lease"),
            ("greeter/+1", ADDRESS, "number of a lease"),
            ("greeter/9223372036854775808", ADDRESS, "number of a lease"),
            ("greeter/10.0.0.7:50051", ADDRESS, "number of a lease"),
            ("greeter/formal/1", ADDRESS, "another service"),
            ("greeter/1", "", "no address"),
            ("greeter/1", "10.0.0.7", "10.0.0.7"),
            ("greeter/1", r#"{"Addr":"10.0.0.7:50051"}"#, "address"),
        ],
    );
}

#[test]
fn kratos() {
    let key = "/microservices/greeter/1";
    let usual = r#"{"id":"1","name":"greeter","version":"","metadata":{},"endpoints":["http://10.0.0.7:8000?isSecure=false","grpc://10.0.0.7:50051?isSecure=false"]}"#;
    let secure = r#"{"id":"host@1","name":"greeter","version":"v1","metadata":{"weight":"9000000000"},"endpoints":["grpcs://10.0.0.7:50051","grpc://[::1]:1?isSecure=true","grpc://nobody"]}"#;
    let heavy = weighing(1_000_000)
        .with_version("v1")
        .with_more_addresses([address("[::1]:1")]);
    are(
        DialectName::Kratos,
        &[
            (key, usual, named("1")),
            (key, secure, heavy),
            (
                key,
                r#"{"endpoints":["grpc://10.0.0.7:50051/"]}"#,
                named("1"),
            ),
            (
                "/microservices/greeter/a/b",
                r#"{"id":"1","name":"greeter","endpoints":["grpc://10.0.0.7:50051"]}"#,
                named("1"),
            ),
        ],
    );
    let http = r#"{"id":"1","name":"greeter","endpoints":["http://10.0.0.7:8000"]}"#;
    are_refused(
        DialectName::Kratos,
        &[
            (key, http, "no address"),
            (
                key,
                r#"{"name":"greeter","endpoints":["grpc://"]}"#,
                "address",
            ),
            (
                key,
                r#"{"name":"other","endpoints":["grpc://a:1"]}"#,
                "service \"other\"",
            ),
            (key, "null", "not of this dialect"),
            (
                "/microservices/greeter/formal/1",
                r#"{"endpoints":["grpc://a:1"]}"#,
                "another",
            ),
        ],
    );
}

#[test]
fn kitex() {
    let key = "kitex/registry-etcd/greeter/10.0.0.7:50051";
    let socket = instance("greeter", "unix:/tmp/greeter.sock")
        .with_weight(Weight::new(10).expect("a weight"));
    are(
        DialectName::Kitex,
        &[
            (
                key,
                r#"{"network":"tcp","address":"10.0.0.7:50051","weight":10,"tags":null}"#,
                weighing(10),
            ),
            (
                key,
                r#"{"address":"10.0.0.7:50051","weight":0}"#,
                weighing(10),
            ),
            (
                key,
                r#"{"address":"10.0.0.7:50051","weight":-3}"#,
                weighing(10),
            ),
            (key, r#"{"address":"10.0.0.7:50051"}"#, weighing(10)),
            (
                key,
                r#"{"address":"10.0.0.7:50051","weight":3000000}"#,
                weighing(1_000_000),
            ),
            (
                key,
                r#"{"address":"10.0.0.7:50051","weight":3,"tags":{"weight":"4"}}"#,
                weighing(3).with_label("weight", "4"),
            ),
            (
                "kitex/registry-etcd/greeter//tmp/greeter.sock",
                r#"{"network":"unix","address":"/tmp/greeter.sock"}"#,
                socket,
            ),
        ],
    );
    are_refused(
        DialectName::Kitex,
        &[
            (key, r#"{"weight":1}"#, "no address"),
            (
                key,
                r#"{"address":"10.0.0.7:50051","weight":"1"}"#,
                "not of this dialect",
            ),
            (
                key,
                r#"{"address":"10.0.0.7:50051","weight":1.5}"#,
                "not of this dialect",
            ),
            (key, r#"{"address":"::1:50051"}"#, "::1:50051"),
            (
                "kitex/registry-etcd/greeter/formal/a:1",
                r#"{"address":"a:1"}"#,
                "another service",
            ),
        ],
    );
}

#[test]
fn go_micro() {
    let key = "/micro/registry/greeter/greeter-1f3e";
    let usual = r#"{"name":"greeter","version":"latest","metadata":null,"endpoints":[{"request":null,"response":null,"metadata":{},"name":"Greeter.Hello"}],"nodes":[{"metadata":{"protocol":"grpc","weight":"3"},"id":"greeter-1f3e","address":"10.0.0.7:50051"}]}"#;
    let mut expected = named("greeter-1f3e")
        .with_version("latest")
        .with_label("protocol", "grpc");
    expected.weight = weighing(3).weight;
    let two = r#"{"metadata":{"a":"service","b":"service"},"nodes":[{"id":"other","address":"a:1"},null,{"ID":"greeter-1f3e","Address":"10.0.0.7:50051","metadata":{"a":"node"}}]}"#;
    let labelled = named("greeter-1f3e")
        .with_label("a", "node")
        .with_label("b", "service");
    are(
        DialectName::GoMicro,
        &[(key, usual, expected), (key, two, labelled)],
    );
    are_refused(
        DialectName::GoMicro,
        &[
            (key, r#"{"name":"greeter","nodes":[]}"#, "no address"),
            (key, r#"{"name":"greeter","nodes":[null]}"#, "no address"),
            (
                key,
                r#"{"name":"greeter","nodes":[{"id":"a"}]}"#,
                "no address",
            ),
            (
                key,
                r#"{"name":"greeter","nodes":{}}"#,
                "not of this dialect",
            ),
            ("/micro/registry/greeter/a/b", usual, "another service"),
        ],
    );
}

#[test]
fn a_slash_in_a_go_micro_service_s_name_is_a_dash_in_its_key() {
    let dialect = Dialect::from(DialectName::GoMicro);
    let value = br#"{"name":"shop/basket","nodes":[{"id":"a","address":"10.0.0.7:50051"}]}"#;
    for name in ["shop/basket", "shop-basket"] {
        let read = read(&dialect, name, "/micro/registry/shop-basket/a", value);
        assert_eq!(read.expect(name).service.as_str(), name);
    }
}

#[test]
fn gopherex() {
    let key = "/gopherex/services/greeter/10.0.0.7:50051";
    let usual = r#"{"ID":"10.0.0.7:50051","Name":"greeter","Addr":"10.0.0.7:50051","MetaData":{"env":"dev","version":"v1"}}"#;
    let expected = greeter().with_version("v1").with_label("env", "dev");
    are(
        DialectName::Gopherex,
        &[
            (key, usual, expected),
            (
                key,
                r#"{"ID":"","Name":"","Addr":"10.0.0.7:50051","MetaData":null}"#,
                greeter(),
            ),
            (
                "/gopherex/services/greeter/1",
                r#"{"addr":"10.0.0.7:50051","metadata":{"incarnation":"0","zone":null}}"#,
                named("1")
                    .with_label("incarnation", "0")
                    .with_label("zone", ""),
            ),
        ],
    );
    are_refused(
        DialectName::Gopherex,
        &[
            (key, r#"{"Name":"greeter"}"#, "no address"),
            (key, r#"{"Name":"other","Addr":"a:1"}"#, "service \"other\""),
            (
                key,
                r#"{"Addr":"a:1","MetaData":["a"]}"#,
                "not of this dialect",
            ),
        ],
    );
}

#[test]
fn plain() {
    are(
        DialectName::Plain,
        &[
            ("greeter", ADDRESS, greeter()),
            ("greeter", " 10.0.0.7:50051\r\n", greeter()),
            ("greeter/1", ADDRESS, greeter()),
            ("greeter/any thing at all", ADDRESS, greeter()),
            (
                "greeter/1",
                "unix:///run/a",
                instance("greeter", "unix:/run/a"),
            ),
        ],
    );
    are_refused(
        DialectName::Plain,
        &[
            ("greeter-2", ADDRESS, "another service"),
            ("greeter-2/1", ADDRESS, "another service"),
            ("greeter/formal/1", ADDRESS, "another service"),
            ("greeter/", ADDRESS, "key"),
            ("greeter/1", "http://10.0.0.7:50051", "address"),
            ("greeter/1", "\u{fe}", "address"),
        ],
    );
}

#[test]
fn an_incarnation_that_we_have_written_is_known_again() {
    let value = r#"{"addr":"10.0.0.7:50051","metadata":{"incarnation":"ff"}}"#;
    let incarnation = Incarnation::parse("ff").expect("an incarnation");
    are(
        DialectName::Qsf,
        &[(
            "/qsf.service/greeter/a",
            value,
            named("a").with_incarnation(incarnation),
        )],
    );
}

#[test]
fn what_is_longer_than_an_instance_is_not_looked_at() {
    for dialect in all() {
        let service = crate::support::service("greeter");
        let long = vec![b' '; LONGEST_VALUE + 1];
        let refused = dialect.decode(&service, b"1", &long);
        assert!(
            matches!(refused, Err(DecodeError::TooLong { bytes }) if bytes == LONGEST_VALUE + 1),
            "{refused:?}"
        );
        let not_text = dialect.decode(&service, b"\xff", b"");
        assert!(
            matches!(not_text, Err(DecodeError::InvalidKey { .. })),
            "{not_text:?}"
        );
    }
}

#[test]
fn a_key_tells_its_service() {
    for (dialect, key, expected) in [
        (DialectName::Etcd, "shop/basket/a:1", Some("shop/basket")),
        (DialectName::Etcd, "/a/b", None),
        (
            DialectName::Qsf,
            "/qsf.service/greeter/a node",
            Some("greeter"),
        ),
        (DialectName::Qsf, "/qsf.services/greeter/a", None),
        (DialectName::Qsf, "/qsf.service/greeter/", None),
        (
            DialectName::GrpcLb,
            "/backend/services/shop/basket/1.0/a",
            Some("shop/basket"),
        ),
        (
            DialectName::GrpcLb,
            "/backend/services/basket//a",
            Some("basket"),
        ),
        (DialectName::GrpcLb, "/backend/services/basket/a", None),
        (DialectName::GoZero, "greeter.rpc/7", Some("greeter.rpc")),
        (DialectName::GoZero, "greeter.rpc/a", None),
        (
            DialectName::Kratos,
            "/microservices/greeter/1",
            Some("greeter"),
        ),
        (
            DialectName::Kitex,
            "kitex/registry-etcd/greeter/a:1",
            Some("greeter"),
        ),
        (
            DialectName::GoMicro,
            "/micro/registry/go.micro.srv.greeter/1",
            Some("go.micro.srv.greeter"),
        ),
        (
            DialectName::Gopherex,
            "/gopherex/services/greeter/a:1",
            Some("greeter"),
        ),
        (DialectName::Plain, "greeter", Some("greeter")),
        (DialectName::Plain, "greeter/any thing", Some("greeter")),
        (DialectName::Plain, "/greeter", None),
    ] {
        let found = Dialect::from(dialect).service_of(key.as_bytes());
        assert_eq!(
            found.as_ref().map(registry::ServiceName::as_str),
            expected,
            "{key}"
        );
    }
}
