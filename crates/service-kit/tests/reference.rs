//! The configuration reference lists every key that there is, and the examples have no other.

use std::{fs, path::Path};

use service_kit::{
    ServiceConfig,
    config::{Sources, load, to_toml},
};
use toml::{Table, Value};

fn keys_of(table: &Table) -> Vec<String> {
    let keys = |(name, value): (&String, &Value)| match value {
        Value::Table(inner) if !inner.is_empty() => keys_of(inner)
            .iter()
            .map(|key| format!("{name}.{key}"))
            .collect(),
        _ => vec![name.clone()],
    };
    table.iter().flat_map(keys).collect()
}

#[test]
fn the_reference_lists_every_key_with_its_variable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let reference = fs::read_to_string(path).expect("the reference");
    let config = ServiceConfig::named("greeter").expect("a name");
    let shown: Table = to_toml(&config)
        .and_then(|text| Ok(text.parse()?))
        .expect("TOML");
    let keys = keys_of(&shown);
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        let variable = format!("DISCOVERY__{}", key.to_uppercase().replace('.', "__"));
        let row = |line: &&str| line.contains(&format!("| `{key}` |")) && line.contains(&variable);
        assert_eq!(
            reference.lines().filter(row).count(),
            1,
            "a row for {key} with {variable}"
        );
    }
}

#[test]
fn every_example_is_a_configuration() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config");
    let defaults = ServiceConfig::named("greeter").expect("a name");
    let mut examples = 0;
    for entry in fs::read_dir(directory).expect("examples") {
        let path = entry.expect("an example").path();
        let sources = Sources {
            file: Some(path.clone()),
            ..Sources::default()
        };
        let config = load(&defaults, &sources).unwrap_or_else(|error| panic!("{error:#}"));
        assert_ne!(config, defaults, "{}", path.display());
        examples += 1;
    }
    assert!(examples >= 2, "{examples}");
}
