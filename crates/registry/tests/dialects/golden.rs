//! `tests/golden/DIALECT/CASE` holds a key, a line break, and the value to the end of the file, byte for byte.

use std::{fs, path::PathBuf};

use registry::{
    Incarnation, Instance, InstanceId, Weight, Zone,
    dialect::{Dialect, Slot, Written},
};

use crate::support::{address, all, instance, read};

fn bare() -> Instance {
    instance("greeter", "10.0.0.7:50051")
}

fn full() -> Instance {
    instance("shop/greeter", "[fd00::7]:50051")
        .with_more_addresses([address("greeter-0.example:50052")])
        .with_id(InstanceId::new("greeter-0").expect("an id"))
        .with_weight(Weight::new(3).expect("a weight"))
        .with_zone(Zone::new("eu-1").expect("a zone"))
        .with_version("v2")
        .with_label("tier", "gold \"ü\"")
        .with_incarnation(Incarnation::parse("00000000000000ff").expect("an incarnation"))
}

fn socket() -> Instance {
    instance("greeter", "unix:/run/greeter.sock").with_version("a/b")
}

fn file(dialect: &Dialect, case: &str) -> PathBuf {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    golden.join(dialect.name().as_str()).join(case)
}

fn golden(dialect: &Dialect, case: &str) -> Written {
    let path = file(dialect, case);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (key, value) = bytes.split_at(end.expect("a key"));
    Written {
        key: String::from_utf8(key.into()).expect("a key is text"),
        value: value[1..].into(),
    }
}

#[test]
fn an_instance_is_written_byte_for_byte_as_the_golden_files_have_it() {
    let slot = Slot::new(7_587_862_094_834_521_857).expect("a slot");
    for dialect in all() {
        for (case, instance) in [("bare", bare()), ("full", full()), ("socket", socket())] {
            let written = dialect.encode(&instance, slot).expect("it serves");
            let golden = golden(&dialect, case);
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let name = dialect.name();
            assert_eq!(written.key, golden.key, "{name} {case}");
            assert_eq!(text(&written.value), text(&golden.value), "{name} {case}");
        }
    }
}

#[test]
fn the_golden_files_are_read_as_the_instances_that_they_are_of() {
    for dialect in all() {
        let read = |name: &str, case| {
            let Written { key, value } = golden(&dialect, case);
            read(&dialect, name, &key, &value).expect(case)
        };
        assert_eq!(read("greeter", "bare"), bare(), "{}", dialect.name());
        let (found, written) = (read("shop/greeter", "full"), full());
        assert_eq!(found.address(), written.address(), "{}", dialect.name());
        assert_eq!(read("greeter", "socket").address(), socket().address());
    }
}
