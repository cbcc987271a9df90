//! `kitex`: kitex-contrib/registry-etcd.
//!
//! Key `kitex/registry-etcd/<service>/<address>`, value
//! `{"network":"tcp","address":"10.0.0.7:50051","weight":10,"tags":{}}`. Its readers ask for what begins with
//! `kitex/registry-etcd/<service>`, without a `/`, look at the values alone, and take 10 for a weight that is not positive.

use serde::{Deserialize, Serialize};

use super::{
    DecodeError, Slot,
    codec::{Codec, one_segment},
    json,
    metadata::{self, Field, Texts},
};
use crate::{Address, Instance, InstanceId, ServiceName};

const FIELDS: &[Field] = &[Field::Zone, Field::Version, Field::Incarnation];
/// What stands for a weight that is not given.
const WEIGHT: i64 = 10;

#[derive(Serialize)]
struct InstanceInfo<'a> {
    network: &'static str,
    address: &'a str,
    weight: u32,
    tags: Texts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReadInfo {
    network: String,
    address: Option<String>,
    weight: i64,
    #[serde(deserialize_with = "metadata::texts")]
    tags: Texts,
}

pub(super) struct Kitex;

impl Codec for Kitex {
    fn default_prefix(&self) -> &'static str {
        "kitex/registry-etcd"
    }

    fn encode(&self, instance: &Instance, _: Slot) -> (String, Vec<u8>) {
        let address = instance.address();
        let path = address.unix_path().and_then(|path| path.to_str());
        let info = InstanceInfo {
            network: if path.is_some() { "unix" } else { "tcp" },
            address: path.unwrap_or(address.as_str()),
            weight: instance.weight.get(),
            tags: metadata::of(instance, FIELDS),
        };
        // A socket's path would be several segments.
        (InstanceId::from(address).to_string(), json::write(&info))
    }

    fn decode(
        &self,
        service: &ServiceName,
        suffix: &str,
        value: &[u8],
    ) -> Result<Instance, DecodeError> {
        let read: ReadInfo = json::read(value)?;
        let address = read.address.ok_or(DecodeError::NoAddress)?;
        if suffix != address {
            one_segment(suffix)?;
        }
        let address = match &*read.network {
            "unix" => Address::new(&format!("unix:{address}"))?,
            _ => Address::new(&address)?,
        };
        let weight = metadata::weight(read.weight).or_else(|| metadata::weight(WEIGHT));
        let instance =
            Instance::new(service.clone(), address).with_weight(weight.unwrap_or_default());
        Ok(metadata::into(instance, read.tags, FIELDS))
    }
}
