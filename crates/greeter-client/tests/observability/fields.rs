//! The fields of files whose programs these tests do not run: what those programs take, as far as ours use it.
//!
//! Grafana passes over a key that it does not know, and the collector does not start. Here either is an error, and so is a word that
//! is none of those that a field can have. The names are those of the programs' own sources: `mapstructure` tags of
//! opentelemetry-collector's configurations; of Grafana the provisioning's `types.go` and the schemas of dashboards and panels.

mod collector;
mod dashboard;
mod provisioning;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::text;

pub(crate) use collector::{Collector, Pipeline, Signal};
pub(crate) use dashboard::{Dashboard, GridPos, SourceRef};
use provisioning::SourceType;
pub(crate) use provisioning::{DataSource, DataSources, Providers};

pub(crate) const DASHBOARDS: [&str; 2] = [
    "grafana/dashboards/services.json",
    "grafana/dashboards/discovery.json",
];

/// Something with no field of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// What is in a list that ours leave empty.
#[derive(Debug, Deserialize)]
pub(crate) enum Never {}

/// What is written in a file, in YAML or JSON, which is YAML as well.
fn value(name: &str) -> Value {
    serde_saphyr::from_str(&text(name)).expect(name)
}

/// The file, if all of it is what `T` has.
pub(crate) fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_value(value(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All keys in it, each with the JSON pointer of where it is.
fn keys(of: &Value, at: &str) -> Vec<(String, String)> {
    match of {
        Value::Object(fields) => {
            let within = |(key, value): (&String, &Value)| {
                let place = key.replace('~', "~0").replace('/', "~1");
                let mut all = keys(value, &format!("{at}/{place}"));
                all.push((at.to_owned(), key.clone()));
                all
            };
            fields.iter().flat_map(within).collect()
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            let within = |(place, item)| keys(item, &format!("{at}/{place}"));
            items.flat_map(within).collect()
        }
        _ => Vec::new(),
    }
}

/// Reads the file, and once for each of its keys with that one misspelt.
fn held_against<T: DeserializeOwned>(name: &str) {
    read::<T>(name);
    let written = value(name);
    let keys = keys(&written, "");
    assert!(keys.len() >= 7, "{name}: {keys:?}");
    for (place, key) in keys {
        let mut misspelt = written.clone();
        let fields = misspelt.pointer_mut(&place).and_then(Value::as_object_mut);
        let fields = fields.expect("it was there");
        let value = fields.remove(&key).expect("it was there");
        fields.insert(format!("{key}x"), value);
        let found = serde_json::from_value::<T>(misspelt).is_err();
        assert!(found, "{name}: {place}/{key} could be misspelt");
    }
}

#[test]
fn every_key_is_one_that_its_program_has_and_none_could_be_misspelt() {
    held_against::<Collector>("collector.yml");
    held_against::<DataSources>("grafana/datasources.yml");
    held_against::<Providers>("grafana/dashboards.yml");
    for dashboard in DASHBOARDS {
        held_against::<Dashboard>(dashboard);
    }
}
