//! `plain`: nothing but an address.
//!
//! Key `<service>`, or `<service>/` and anything in one segment; value `10.0.0.7:50051`. Ours is `<service>/@<id>`: no id
//! has an `@`, so that it is nobody else's key where the dialects of other systems have theirs at the same place.

use super::{
    DecodeError, Slot,
    codec::{Codec, one_segment},
};
use crate::{Address, Instance, ServiceName};

pub(super) struct Plain;

impl Codec for Plain {
    fn path(&self, service: &ServiceName) -> String {
        service.to_string()
    }

    fn encode(&self, instance: &Instance, _: Slot) -> (String, Vec<u8>) {
        let suffix = format!("/@{}", instance.id);
        (suffix, instance.address().as_str().into())
    }

    fn decode(
        &self,
        service: &ServiceName,
        suffix: &str,
        value: &[u8],
    ) -> Result<Instance, DecodeError> {
        match suffix.strip_prefix('/') {
            Some(anything) => {
                one_segment(anything)?;
            }
            None if suffix.is_empty() => {}
            // The name goes on: `greeter-2`.
            None => return Err(DecodeError::AnotherService),
        }
        instance(service, value)
    }

    fn service_of(&self, key: &str) -> Option<ServiceName> {
        let service = key.rsplit_once('/').map_or(key, |(service, _)| service);
        ServiceName::new(service).ok()
    }
}

/// The instance of which there is an address and nothing else. Those who write it by hand may end it with a line break.
pub(super) fn instance(service: &ServiceName, value: &[u8]) -> Result<Instance, DecodeError> {
    let address = str::from_utf8(value).map_err(DecodeError::invalid_value)?;
    match address.trim_ascii() {
        "" => Err(DecodeError::NoAddress),
        address => Ok(Instance::new(service.clone(), Address::new(address)?)),
    }
}
