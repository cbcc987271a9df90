//! `go-micro`: `registry/etcd` of micro/go-micro.
//!
//! Key `/micro/registry/<service>/<node>`, in either of which a `/` is written `-`, value
//! `{"name":"…","version":"…","metadata":{},"endpoints":[],"nodes":[{"id":"…","address":"…","metadata":{}}]}`, of one node.
//! Its readers ask for what begins with `/micro/registry/<service>/` and take every node there is.

use serde::{Deserialize, Serialize};

use super::{
    DecodeError, Slot,
    codec::{Codec, one_segment},
    json::{self, Object},
    metadata::{self, Field, Texts},
};
use crate::{Address, Instance, ServiceName};

const FIELDS: &[Field] = &[Field::Weight, Field::Zone, Field::Incarnation];

#[derive(Serialize)]
struct Service<'a> {
    name: &'a str,
    version: &'a str,
    metadata: Texts,
    endpoints: [(); 0],
    nodes: [Node<'a>; 1],
}

#[derive(Serialize)]
struct Node<'a> {
    id: &'a str,
    address: &'a str,
    metadata: Texts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReadService {
    version: String,
    #[serde(deserialize_with = "metadata::texts")]
    metadata: Texts,
    nodes: Vec<Option<Object>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReadNode {
    id: String,
    address: Option<String>,
    #[serde(deserialize_with = "metadata::texts")]
    metadata: Texts,
}

pub(super) struct GoMicro;

impl Codec for GoMicro {
    fn default_prefix(&self) -> &'static str {
        "/micro/registry"
    }

    fn path(&self, service: &ServiceName) -> String {
        format!("{}/", segment(service.as_str()))
    }

    fn encode(&self, instance: &Instance, _: Slot) -> (String, Vec<u8>) {
        let node = Node {
            id: instance.id.as_str(),
            address: instance.address().as_str(),
            metadata: metadata::of(instance, FIELDS),
        };
        let service = Service {
            name: instance.service.as_str(),
            version: instance.version.as_deref().unwrap_or_default(),
            metadata: Texts::new(),
            endpoints: [],
            nodes: [node],
        };
        (segment(instance.id.as_str()), json::write(&service))
    }

    fn decode(
        &self,
        service: &ServiceName,
        suffix: &str,
        value: &[u8],
    ) -> Result<Instance, DecodeError> {
        one_segment(suffix)?;
        let read: ReadService = json::read(value)?;
        let nodes = read.nodes.into_iter().flatten().map(Object::into);
        let nodes = nodes.collect::<Result<Vec<ReadNode>, _>>()?;
        let of_key = |node: &ReadNode| segment(&node.id) == suffix;
        let at = nodes.iter().position(of_key).unwrap_or(0);
        let node = nodes.into_iter().nth(at).ok_or(DecodeError::NoAddress)?;
        let address = Address::new(&node.address.ok_or(DecodeError::NoAddress)?)?;
        let mut instance = Instance::new(service.clone(), address).with_foreign_id(&node.id);
        if !read.version.is_empty() {
            instance.version = Some(read.version.into());
        }
        // What is said of the node counts more than what is said of all of the service.
        let texts = read.metadata.into_iter().chain(node.metadata).collect();
        Ok(metadata::into(instance, texts, FIELDS))
    }
}

fn segment(name: &str) -> String {
    name.replace('/', "-")
}
