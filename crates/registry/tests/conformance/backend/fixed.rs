//! The fixed backend: its list is a file, written before it is opened.

use std::{collections::BTreeMap, fs};

use registry::{Instance, Store, backend::fixed::FixedStore};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::Readable;

pub(crate) struct Fixed {
    store: FixedStore,
    _directory: TempDir,
}

impl Readable for Fixed {
    async fn showing(instances: &[Instance]) -> Self {
        let mut list = BTreeMap::<&str, Vec<Value>>::new();
        for instance in instances {
            list.entry(instance.service.as_str())
                .or_default()
                .push(record(instance));
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("list.json");
        fs::write(&file, json!(list).to_string()).expect("a file");
        Self {
            store: FixedStore::from_file(file).expect("a list"),
            _directory: directory,
        }
    }

    fn reader(&self) -> &dyn Store {
        &self.store
    }
}

/// An instance as an operator writes it into a list.
fn record(instance: &Instance) -> Value {
    json!({
        "v": 1,
        "id": instance.id.as_str(),
        "addresses": instance.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "weight": instance.weight.get(),
        "zone": instance.zone.as_ref().map(ToString::to_string),
        "version": instance.version,
        "labels": instance.labels,
        "status": instance.status.as_str(),
        "incarnation": instance.incarnation.map(|incarnation| incarnation.to_string()),
    })
}
