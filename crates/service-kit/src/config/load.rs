//! The layers, put over one another by the `config` crate, and errors that say which layer a value came from.

use std::{collections::HashMap, env, ffi::OsString, path::PathBuf};

use anyhow::{Context, anyhow, bail};
use config::{Config, ConfigError, Environment, File, FileFormat, Map, Source, Value, ValueKind};
use serde::{Serialize, de::DeserializeOwned};
use toml::Table;

use super::file::TomlFile;

const PREFIX: &str = "DISCOVERY";
const SEPARATOR: &str = "__";

/// What is laid over a configuration's defaults, from the lowest layer to the highest.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Variables by their names: `DISCOVERY__SECTION__KEY`.
    pub environment: HashMap<String, String>,
    /// What the command line sets.
    pub flags: Flags,
}

impl Sources {
    /// The file and the flags of a command line, and the variables of this process's environment.
    pub fn of_process(file: Option<PathBuf>, flags: Flags) -> anyhow::Result<Self> {
        Ok(Self {
            file,
            environment: ours(env::vars_os())?,
            flags,
        })
    }
}

/// The variables that are ours, by the whole prefix: others may begin with `DISCOVERY_` too.
fn ours(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> anyhow::Result<HashMap<String, String>> {
    let prefix = format!("{PREFIX}{SEPARATOR}");
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(&prefix))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => bail!("the value of {name} in the environment is not Unicode"),
        })
        .collect()
}

/// Configuration keys that the command line sets.
#[derive(Debug, Clone, Default)]
pub struct Flags(Vec<Flag>);

#[derive(Debug, Clone)]
struct Flag {
    name: &'static str,
    key: &'static str,
    value: String,
}

impl Flags {
    /// No flags.
    pub fn new() -> Self {
        Self::default()
    }

    /// The flag `name` (`--listen`) sets the key `key` (`server.listen`), when it was given.
    #[must_use]
    pub fn set(
        mut self,
        name: &'static str,
        key: &'static str,
        value: Option<impl ToString>,
    ) -> Self {
        self.0.extend(value.map(|value| Flag {
            name,
            key,
            value: value.to_string(),
        }));
        self
    }

    /// These flags and those of another part of the command line.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }
}

impl Source for Flags {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let value = |flag: &Flag| {
            Value::new(
                Some(&flag.name.to_owned()),
                ValueKind::String(flag.value.clone()),
            )
        };
        Ok(self
            .0
            .iter()
            .map(|flag| (flag.key.to_owned(), value(flag)))
            .collect())
    }
}

/// Lays `sources` over `defaults`.
///
/// # Errors
/// A key that `defaults` does not have, or a value that does not fit; the message names the key, where it came from,
/// and what would do.
pub fn load<T: Serialize + DeserializeOwned>(defaults: &T, sources: &Sources) -> anyhow::Result<T> {
    let defaults = Table::try_from(defaults).context("the defaults cannot be written as TOML")?;
    let environment = Environment::with_prefix(PREFIX)
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .source(Some(sources.environment.clone()));
    let file = sources.file.clone().map(TomlFile);

    if let Some(file) = &file {
        check_keys(&defaults, file).context("cannot read the configuration")?;
    }
    check_keys(&defaults, &environment).context("cannot read the configuration")?;

    let mut layers =
        Config::builder().add_source(File::from_str(&defaults.to_string(), FileFormat::Toml));
    if let Some(file) = file {
        layers = layers.add_source(file);
    }
    let merged = layers
        .add_source(environment)
        .add_source(sources.flags.clone())
        .build()
        .context("cannot read the configuration")?;
    merged
        .clone()
        .try_deserialize()
        .map_err(|error| refusal(&merged, error))
        .context("cannot read the configuration")
}

/// Refuses a layer that has a key which the defaults do not have.
fn check_keys(defaults: &Table, layer: &impl Source) -> anyhow::Result<()> {
    for (key, value) in layer.collect()? {
        check_key(defaults, &key, &value)?;
    }
    Ok(())
}

fn check_key(defaults: &Table, key: &str, value: &Value) -> anyhow::Result<()> {
    if let ValueKind::Table(inner) = &value.kind {
        return inner
            .iter()
            .try_for_each(|(name, value)| check_key(defaults, &format!("{key}.{name}"), value));
    }
    check_name(defaults, "the configuration", key)
        .map_err(|known| anyhow!("unknown key {key} in {}; {known}", origin(key, value)))
}

/// Follows `name` into a section of the defaults; the error says what the section that does not have it has.
fn check_name(table: &Table, section: &str, name: &str) -> Result<(), String> {
    let (head, rest) = name
        .split_once('.')
        .map_or((name, None), |(head, rest)| (head, Some(rest)));
    match (table.get(head), rest) {
        (Some(toml::Value::Table(inner)), Some(rest)) => {
            check_name(inner, &format!("[{head}]"), rest)
        }
        (Some(value), None) if !value.is_table() => Ok(()),
        // An empty table is for names that others choose.
        (None, _) if table.is_empty() => Ok(()),
        _ => {
            let keys: Vec<_> = table.keys().map(String::as_str).collect();
            Err(format!("{section} has {}", keys.join(", ")))
        }
    }
}

/// Says which value was refused and where it came from; the `config` crate knows it and does not always say it.
fn refusal(merged: &Config, error: ConfigError) -> anyhow::Error {
    let (key, problem) = match error {
        ConfigError::At {
            error,
            key: Some(key),
            ..
        } => (key, error.to_string()),
        ConfigError::Type {
            unexpected,
            expected,
            key: Some(key),
            ..
        } => (key, format!("it is {unexpected}, expected {expected}")),
        other => return other.into(),
    };
    match value_at(&merged.cache, &key) {
        Some(value) => anyhow!("{key} from {}: {problem}", origin(&key, value)),
        None => anyhow!("{key}: {problem}"),
    }
}

/// The value itself: a deserialized copy would not know its origin.
fn value_at<'a>(root: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.')
        .try_fold(root, |value, name| match &value.kind {
            ValueKind::Table(table) => table.get(name),
            _ => None,
        })
}

/// Where a value came from, as the person who wrote it knows it.
fn origin(key: &str, value: &Value) -> String {
    match value.origin() {
        Some("the environment") => {
            let variable = key.to_uppercase().replace('.', SEPARATOR);
            format!("the environment ({PREFIX}{SEPARATOR}{variable})")
        }
        Some(origin) => origin.to_owned(),
        None => "the defaults".to_owned(),
    }
}
