//! The default dialect: that of etcd's own Go `client/v3/naming`.
//!
//! Key `<service>/<id>`, value `{"Op":0,"Addr":"10.0.0.7:50051","Metadata":null}`. What this project says of an instance
//! beyond its address goes into `Metadata` **as a JSON string**: an object there makes grpc-go panic, since it compares
//! addresses with `==`.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    DecodeError, Slot,
    codec::{Codec, one_segment},
};
use crate::{Address, Instance, InstanceId, InvalidInstance, ServiceName, record::Record};

pub(super) struct Etcd;

impl Codec for Etcd {
    fn has_status(&self) -> bool {
        true
    }

    fn encode(&self, instance: &Instance, _: Slot) -> (String, Vec<u8>) {
        (instance.id.to_string(), encode(instance))
    }

    fn decode(
        &self,
        service: &ServiceName,
        suffix: &str,
        value: &[u8],
    ) -> Result<Instance, DecodeError> {
        let id = InstanceId::new(one_segment(suffix)?)
            .map_err(|_| DecodeError::invalid_key(suffix.as_bytes()))?;
        decode(service, id, value)
    }

    fn service_of(&self, key: &str) -> Option<ServiceName> {
        service_of(key.as_bytes())
    }
}

/// What the keys of all instances of a service begin with; those of services whose names go on begin with it too.
pub(crate) fn prefix(service: &ServiceName) -> String {
    format!("{service}/")
}

/// The key of an instance.
pub(crate) fn key(service: &ServiceName, id: &InstanceId) -> String {
    format!("{service}/{id}")
}

/// What a key below a service's prefix, less that prefix, stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Suffix {
    /// An instance of the service.
    Instance(InstanceId),
    /// A key of another service: the name goes on.
    Deeper,
    /// Neither.
    Invalid(InvalidInstance),
}

/// Reads what follows a service's prefix in a key.
pub(crate) fn suffix(text: &[u8]) -> Suffix {
    if text.contains(&b'/') {
        return Suffix::Deeper;
    }
    match InstanceId::new(&String::from_utf8_lossy(text)) {
        Ok(id) => Suffix::Instance(id),
        Err(reason) => Suffix::Invalid(reason),
    }
}

/// The service that a key belongs to: all before its last `/`. `None` for a key of something else.
pub(crate) fn service_of(key: &[u8]) -> Option<ServiceName> {
    let key = std::str::from_utf8(key).ok()?;
    let (service, id) = key.rsplit_once('/')?;
    InstanceId::new(id).ok()?;
    ServiceName::new(service).ok()
}

/// The first place after `key` where a service's key may be: whatever lies below a segment that no service's name has is
/// passed over whole.
pub(crate) fn after(key: &[u8]) -> Vec<u8> {
    let slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let mut start = 0;
    for (end, _) in slashes {
        let segment = str::from_utf8(&key[start..end]).ok();
        if segment.is_none_or(|segment| ServiceName::new(segment).is_err()) {
            // In the order of keys this is what comes after all that begins with the segment and a '/'.
            return [&key[..end], &[b'/' + 1]].concat();
        }
        start = end + 1;
    }
    [key, &[0]].concat()
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Written<'a> {
    op: u8,
    addr: &'a str,
    metadata: Option<String>,
}

/// The value of an instance.
pub(crate) fn encode(instance: &Instance) -> Vec<u8> {
    let addr = instance.address();
    let record = Record::new(instance).without_address(addr);
    let written = Written {
        op: 0,
        addr: addr.as_str(),
        metadata: (!record.is_default()).then(|| record.to_json()),
    };
    serde_json::to_vec(&written).expect("a number and two strings are JSON")
}

/// The instance that `value`, at the key of `id` of `service`, describes.
pub(crate) fn decode(
    service: &ServiceName,
    id: InstanceId,
    value: &[u8],
) -> Result<Instance, DecodeError> {
    let read: Read = serde_json::from_slice(value).map_err(DecodeError::invalid_value)?;
    let address = Address::new(&read.addr.ok_or(DecodeError::NoAddress)?)?;
    let metadata = read.metadata.filter(|raw| raw.get() != "null");
    let text: Option<String> = metadata.map(|raw| {
        // What is not a string is kept as it is written.
        serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
    });
    let instance = match text {
        None => Instance::new(service.clone(), address),
        Some(text) => match Record::parse(text.as_bytes()) {
            Some(record) => record
                .into_instance(service.clone(), Some(address))
                .map_err(DecodeError::invalid_value)?,
            None => Instance {
                foreign_metadata: Some(text.into()),
                ..Instance::new(service.clone(), address)
            },
        },
    };
    Ok(instance.with_id(id))
}

/// A value as Go's `encoding/json` reads it: names in any case, the last of several, anything else ignored. `Op` is not
/// looked at: whatever is stored counts as an addition, as it does for Go's resolver.
#[derive(Default)]
struct Read {
    addr: Option<String>,
    metadata: Option<Box<RawValue>>,
}

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadVisitor)
    }
}

struct ReadVisitor;

impl<'de> Visitor<'de> for ReadVisitor {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"Addr\" and \"Metadata\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let mut read = Read::default();
        while let Some(name) = map.next_key::<String>()? {
            if name.eq_ignore_ascii_case("addr") {
                read.addr = map.next_value()?;
            } else if name.eq_ignore_ascii_case("metadata") {
                read.metadata = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
