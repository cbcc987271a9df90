//! `grpc-lb`: liyue201/grpc-lb.
//!
//! Key `<dir>/<name>/<version>/<id>`, value
//! `{"InstanceId":"…","Name":"…","Version":"…","Address":"…","Metadata":{"weight":["3"]}}`, where the metadata are gRPC's:
//! each name has a list. Its readers ask for what begins with `<dir>/<name>/<version>`, so that they see one version only,
//! and take a weight from the metadata.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    DecodeError, Slot,
    codec::{Codec, named},
    json,
    metadata::{self, Field},
};
use crate::{Address, Instance, ServiceName};

const FIELDS: &[Field] = &[Field::Weight, Field::Zone, Field::Incarnation];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceInfo<'a> {
    instance_id: &'a str,
    name: &'a str,
    version: &'a str,
    address: &'a str,
    metadata: BTreeMap<Arc<str>, [Arc<str>; 1]>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReadInfo {
    instanceid: Option<String>,
    name: Option<String>,
    version: String,
    address: Option<String>,
    metadata: BTreeMap<Arc<str>, Values>,
}

/// What may be null is empty.
type Values = Option<Vec<Option<Arc<str>>>>;

pub(super) struct GrpcLb;

impl Codec for GrpcLb {
    fn default_prefix(&self) -> &'static str {
        "/backend/services"
    }

    fn encode(&self, instance: &Instance, _: Slot) -> (String, Vec<u8>) {
        let Instance { service, id, .. } = instance;
        let version = instance.version.as_deref().unwrap_or_default();
        let texts = metadata::of(instance, FIELDS).into_iter();
        let info = ServiceInfo {
            instance_id: id.as_str(),
            name: service.as_str(),
            version,
            address: instance.address().as_str(),
            metadata: texts.map(|(name, text)| (name, [text])).collect(),
        };
        // One segment, so that the key tells the service.
        let segment = version.replace('/', "-");
        (format!("{segment}/{id}"), json::write(&info))
    }

    fn decode(
        &self,
        service: &ServiceName,
        suffix: &str,
        value: &[u8],
    ) -> Result<Instance, DecodeError> {
        const ALLOWED: &str = "a key ends with a version, '/' and the instance's id";
        let (version, id) = suffix
            .rsplit_once('/')
            .filter(|(_, id)| !id.is_empty())
            .ok_or_else(|| DecodeError::invalid_key_but(suffix.as_bytes(), ALLOWED))?;
        let read: ReadInfo = json::read(value)?;
        named(read.name.as_deref(), service, version)?;
        let address = Address::new(&read.address.ok_or(DecodeError::NoAddress)?)?;
        let written = read.instanceid.filter(|id| !id.is_empty());
        let mut instance = Instance::new(service.clone(), address)
            .with_foreign_id(written.as_deref().unwrap_or(id));
        if !read.version.is_empty() {
            instance.version = Some(read.version.into());
        }
        let first = |values: Values| values?.into_iter().next();
        let texts = read.metadata.into_iter();
        let texts =
            texts.filter_map(|(name, values)| Some((name, first(values)?.unwrap_or_default())));
        Ok(metadata::into(instance, texts.collect(), FIELDS))
    }

    fn service_of(&self, key: &str) -> Option<ServiceName> {
        let (versioned, id) = key.rsplit_once('/')?;
        let (service, _version) = versioned.rsplit_once('/')?;
        (!id.is_empty()).then(|| ServiceName::new(service).ok())?
    }
}
