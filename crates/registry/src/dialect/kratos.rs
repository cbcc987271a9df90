//! `kratos`: `contrib/registry/etcd` of go-kratos/kratos.
//!
//! Key `/microservices/<name>/<id>`, value
//! `{"id":"…","name":"…","version":"…","metadata":{},"endpoints":["grpc://10.0.0.7:50051?isSecure=false"]}`. Its readers
//! ask for what begins with `/microservices/<name>`, without a `/`, fail as a whole when one value cannot be read, and then
//! take those of their name; of the endpoints they take the first of the scheme `grpc` (`grpcs` for TLS) and a weight
//! from the metadata.

use serde::{Deserialize, Serialize};

use super::{
    DecodeError, Slot,
    codec::{Codec, named},
    json,
    metadata::{self, Field, Texts},
};
use crate::{Address, Instance, ServiceName};

const FIELDS: &[Field] = &[Field::Weight, Field::Zone, Field::Incarnation];

#[derive(Serialize)]
struct ServiceInstance<'a> {
    id: &'a str,
    name: &'a str,
    version: &'a str,
    metadata: Texts,
    endpoints: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReadInstance {
    id: Option<String>,
    name: Option<String>,
    version: String,
    #[serde(deserialize_with = "metadata::texts")]
    metadata: Texts,
    endpoints: Vec<String>,
}

pub(super) struct Kratos;

impl Codec for Kratos {
    fn default_prefix(&self) -> &'static str {
        "/microservices"
    }

    fn encode(&self, instance: &Instance, _: Slot) -> (String, Vec<u8>) {
        let written = ServiceInstance {
            id: instance.id.as_str(),
            name: instance.service.as_str(),
            version: instance.version.as_deref().unwrap_or_default(),
            metadata: metadata::of(instance, FIELDS),
            endpoints: instance.addresses().iter().map(endpoint).collect(),
        };
        (instance.id.to_string(), json::write(&written))
    }

    fn decode(
        &self,
        service: &ServiceName,
        suffix: &str,
        value: &[u8],
    ) -> Result<Instance, DecodeError> {
        let read: ReadInstance = json::read(value)?;
        named(read.name.as_deref(), service, suffix)?;
        let endpoints = read.endpoints.iter().filter_map(|text| address(text));
        let mut addresses = endpoints.map(Address::new);
        let first = addresses.next().ok_or(DecodeError::NoAddress)??;
        let id = read.id.filter(|id| !id.is_empty());
        let mut instance = Instance::new(service.clone(), first)
            .with_more_addresses(addresses.flatten())
            .with_foreign_id(id.as_deref().unwrap_or(suffix));
        if !read.version.is_empty() {
            instance.version = Some(read.version.into());
        }
        Ok(metadata::into(instance, read.metadata, FIELDS))
    }
}

/// An address as a URL. A Unix socket is passed over by its readers, for whom it has another scheme.
fn endpoint(address: &Address) -> String {
    match address.port() {
        Some(_) => format!("grpc://{address}?isSecure=false"),
        None => address.to_string(),
    }
}

/// The address in an endpoint of gRPC; `None` for one of another protocol.
fn address(endpoint: &str) -> Option<&str> {
    if endpoint.starts_with("unix:") {
        return Some(endpoint);
    }
    let rest = ["grpc://", "grpcs://"]
        .iter()
        .find_map(|scheme| endpoint.strip_prefix(scheme))?;
    rest.split(['/', '?', '#']).next()
}
