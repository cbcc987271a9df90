//! What `--output json` says of things, which others rely on: fields are added, and none is taken away or changed.

use std::{collections::BTreeMap, sync::Arc};

use registry::{Instance, Intent};
use serde::Serialize;

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct InstanceForm {
    pub(crate) service: String,
    pub(crate) id: String,
    /// The preferred one first.
    pub(crate) addresses: Vec<String>,
    /// What an operator wants, else what it says itself; so is `weight`.
    pub(crate) status: &'static str,
    pub(crate) weight: u32,
    pub(crate) zone: Option<String>,
    pub(crate) version: Option<Arc<str>>,
    pub(crate) labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What it says itself, whatever an operator wants; so is `own_weight`.
    pub(crate) own_status: &'static str,
    pub(crate) own_weight: u32,
    /// What an operator wants; `None` where it is left to itself.
    pub(crate) intent: Option<IntentForm>,
    /// Which start of its process it is, where it says so.
    pub(crate) incarnation: Option<String>,
    /// Where it stands in the registry.
    pub(crate) key: Option<Arc<str>>,
    /// When that was written, by the registry's count.
    pub(crate) revision: Option<u64>,
}

impl From<&Instance> for InstanceForm {
    fn from(instance: &Instance) -> Self {
        let addresses = instance.addresses().iter();
        Self {
            service: instance.service.to_string(),
            id: instance.id.to_string(),
            addresses: addresses.map(ToString::to_string).collect(),
            status: instance.status.as_str(),
            weight: instance.weight.get(),
            zone: instance.zone.as_ref().map(ToString::to_string),
            version: instance.version.clone(),
            labels: instance.labels.clone(),
            own_status: instance.own_status().as_str(),
            own_weight: instance.own_weight().get(),
            intent: instance.intent().map(IntentForm::from),
            incarnation: instance.incarnation.map(|start| start.to_string()),
            key: instance.origin().map(|origin| Arc::clone(&origin.key)),
            revision: instance.origin().map(|origin| origin.revision.0),
        }
    }
}

/// What an operator wants; `None` leaves a thing to the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct IntentForm {
    pub(crate) status: Option<&'static str>,
    pub(crate) weight: Option<u32>,
}

impl From<&Intent> for IntentForm {
    fn from(intent: &Intent) -> Self {
        Self {
            status: intent.status().map(registry::Status::as_str),
            weight: intent.weight().map(registry::Weight::get),
        }
    }
}
