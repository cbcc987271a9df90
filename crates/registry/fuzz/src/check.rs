//! What holds for whatever anybody may have written into etcd.

use registry::{
    ServiceName,
    dialect::{Dialect, DialectName, LONGEST_VALUE, Slot, Written},
};

/// Reads `input`, what follows the service in a key, a line break and a value, as an instance of `greeter`, and tells
/// whether it is one. What is read can be written, and is then read as the same again.
pub fn check(name: DialectName, input: &[u8]) -> bool {
    let dialect = Dialect::from(name);
    let service = ServiceName::new("greeter").expect("a name");
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let suffix = parts.next().unwrap_or_default();
    let value = parts.next().unwrap_or_default();
    let key = [dialect.service_prefix(&service).as_bytes(), suffix].concat();
    let _ = dialect.service_of(&key);
    let Ok(read) = dialect.decode(&service, suffix, value) else {
        return false;
    };
    let slot = Slot::new(7).expect("a number");
    let Written { key, value } = dialect.encode(&read, slot).expect("it serves, or says so");
    // What escapes one text in another can be longer than what was read.
    if value.len() <= LONGEST_VALUE {
        let suffix = key.strip_prefix(&dialect.service_prefix(&service));
        let suffix = suffix.expect("a key of the service").as_bytes();
        let again = dialect.decode(&service, suffix, &value);
        assert_eq!(again.expect("our own value"), read);
    }
    true
}
