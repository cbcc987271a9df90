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
use crate::{Address, Instance, InstanceId, ServiceName, record::Record};

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
        let (service, id) = key.rsplit_once('/')?;
        InstanceId::new(id).ok()?;
        ServiceName::new(service).ok()
    }
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
