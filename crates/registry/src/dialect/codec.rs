//! What a dialect is made of.

use super::{DecodeError, Slot};
use crate::{Instance, ServiceName};

/// One dialect's keys, less what all of them begin with, and its values.
pub(super) trait Codec: Sync {
    /// What its own software has its keys begin with, less the `/` after it.
    fn default_prefix(&self) -> &'static str {
        ""
    }

    /// Whether its values say that an instance drains or does not serve.
    fn has_status(&self) -> bool {
        false
    }

    /// The part of a key that stands for the service, to which suffixes are appended.
    fn path(&self, service: &ServiceName) -> String {
        format!("{service}/")
    }

    /// The suffix and the value of an instance.
    fn encode(&self, instance: &Instance, slot: Slot) -> (String, Vec<u8>);

    /// The instance that a key with this suffix and its value describe.
    fn decode(
        &self,
        service: &ServiceName,
        suffix: &str,
        value: &[u8],
    ) -> Result<Instance, DecodeError>;

    /// The service that a key belongs to, the prefix taken off; by default all before its last segment.
    fn service_of(&self, key: &str) -> Option<ServiceName> {
        let (service, last) = key.rsplit_once('/')?;
        (!last.is_empty()).then(|| ServiceName::new(service).ok())?
    }
}

/// Refuses what does not end in one segment: it is of a service whose name goes on.
pub(super) fn one_segment(suffix: &str) -> Result<&str, DecodeError> {
    match suffix {
        "" => Err(DecodeError::invalid_key(b"")),
        _ if suffix.contains('/') => Err(DecodeError::AnotherService),
        _ => Ok(suffix),
    }
}

/// Refuses what says that it is of another service. When it does not say, it is of another one if what its key has in the
/// place of `segment` is several.
pub(super) fn named(
    name: Option<&str>,
    service: &ServiceName,
    segment: &str,
) -> Result<(), DecodeError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return if segment.contains('/') {
            Err(DecodeError::AnotherService)
        } else {
            Ok(())
        };
    };
    match name.strip_prefix(service.as_str()) {
        Some("") => Ok(()),
        Some(rest) if rest.starts_with('/') => Err(DecodeError::AnotherService),
        _ => Err(DecodeError::wrong_service(name)),
    }
}
