//! `gopherex`: an `Instance` of handikong/gopherex as Go marshals it.
//!
//! Key `/gopherex/services/<service>/<id>`, value
//! `{"ID":"10.0.0.7:50051","Name":"…","Addr":"10.0.0.7:50051","MetaData":{"version":"v1"}}`. Its readers ask for what
//! begins with `/gopherex/services/<service>/`, and read all of it anew when something changes.

use serde::{Deserialize, Serialize};

use super::{
    DecodeError, Slot,
    codec::{Codec, named},
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
struct Register<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Name")]
    name: &'a str,
    #[serde(rename = "Addr")]
    addr: &'a str,
    #[serde(rename = "MetaData")]
    metadata: Texts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReadRegister {
    id: Option<String>,
    name: Option<String>,
    addr: Option<String>,
    #[serde(deserialize_with = "metadata::texts")]
    metadata: Texts,
}

pub(super) struct Gopherex;

impl Codec for Gopherex {
    fn default_prefix(&self) -> &'static str {
        "/gopherex/services"
    }

    fn encode(&self, instance: &Instance, _: Slot) -> (String, Vec<u8>) {
        let register = Register {
            id: instance.id.as_str(),
            name: instance.service.as_str(),
            addr: instance.address().as_str(),
            metadata: metadata::of(instance, FIELDS),
        };
        (instance.id.to_string(), json::write(&register))
    }

    fn decode(
        &self,
        service: &ServiceName,
        suffix: &str,
        value: &[u8],
    ) -> Result<Instance, DecodeError> {
        let read: ReadRegister = json::read(value)?;
        named(read.name.as_deref(), service, suffix)?;
        let address = Address::new(&read.addr.ok_or(DecodeError::NoAddress)?)?;
        let id = read.id.filter(|id| !id.is_empty());
        let instance = Instance::new(service.clone(), address)
            .with_foreign_id(id.as_deref().unwrap_or(suffix));
        Ok(metadata::into(instance, read.metadata, FIELDS))
    }
}
