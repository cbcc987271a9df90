//! Instances.

use registry::{
    Address, Instance, ServiceName,
    dialect::{DecodeError, Dialect, DialectName},
};

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a name")
}

pub(crate) fn address(address: &str) -> Address {
    Address::new(address).expect("an address")
}

pub(crate) fn instance(name: &str, at: &str) -> Instance {
    Instance::new(service(name), address(at))
}

/// Reads a key and its value as an instance of that service.
pub(crate) fn read(
    dialect: &Dialect,
    name: &str,
    key: &str,
    value: &[u8],
) -> Result<Instance, DecodeError> {
    let service = service(name);
    let suffix = key.strip_prefix(&dialect.service_prefix(&service));
    dialect.decode(&service, suffix.expect("a key of it").as_bytes(), value)
}

pub(crate) fn all() -> impl Iterator<Item = Dialect> {
    DialectName::ALL.into_iter().map(Dialect::from)
}
