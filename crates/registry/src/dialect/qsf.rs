//! `qsf`: chuangyou/qsf.
//!
//! Key `<dir>/<service>/<node>`, value `{"addr":"10.0.0.7:50051","metadata":{"weight":"3"}}`. Its versions differ in the
//! case of the names, which Go reads in any. Its readers ask for what begins with `<dir>/<service>`, without a `/`, and
//! take a weight from the metadata.

use serde::{Deserialize, Serialize};

use super::{
    DecodeError, Slot,
    codec::{Codec, one_segment},
    json,
    metadata::{self, Field, Texts},
};
use crate::{Address, Instance, ServiceName};

const FIELDS: &[Field] = &[
    Field::Weight,
    Field::Zone,
    Field::Version,
    Field::Incarnation,
];

#[derive(Serialize)]
struct Node<'a> {
    addr: &'a str,
    metadata: Texts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReadNode {
    addr: Option<String>,
    #[serde(deserialize_with = "metadata::texts")]
    metadata: Texts,
}

pub(super) struct Qsf;

impl Codec for Qsf {
    fn default_prefix(&self) -> &'static str {
        "/qsf.service"
    }

    fn encode(&self, instance: &Instance, _: Slot) -> (String, Vec<u8>) {
        let node = Node {
            addr: instance.address().as_str(),
            metadata: metadata::of(instance, FIELDS),
        };
        (instance.id.to_string(), json::write(&node))
    }

    fn decode(
        &self,
        service: &ServiceName,
        suffix: &str,
        value: &[u8],
    ) -> Result<Instance, DecodeError> {
        let node = one_segment(suffix)?;
        let ReadNode { addr, metadata } = json::read(value)?;
        let address = Address::new(&addr.ok_or(DecodeError::NoAddress)?)?;
        let instance = Instance::new(service.clone(), address).with_foreign_id(node);
        Ok(metadata::into(instance, metadata, FIELDS))
    }
}
