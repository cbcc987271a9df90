//! JSON text to a value, and a value to what it says, with the path of whatever is wrong.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, error::Category};

use super::InvalidServiceConfig;

/// Reads a text by the rules of protobuf's JSON: no key twice in an object, and `null` is the same as no key.
pub(super) fn parse(text: &str) -> Result<Value, InvalidServiceConfig> {
    let mut json = serde_json::Deserializer::from_str(text);
    let Strict(value) =
        serde_path_to_error::deserialize(&mut json).map_err(|error| match error.inner() {
            inner if inner.classify() == Category::Data => refused("", &error),
            inner => not_json(inner),
        })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> InvalidServiceConfig {
    InvalidServiceConfig::new("", format!("not JSON: {error}"))
}

/// Reads what stands at `path`.
pub(super) fn read<T: DeserializeOwned>(
    path: &str,
    value: Value,
) -> Result<T, InvalidServiceConfig> {
    serde_path_to_error::deserialize(value).map_err(|error| refused(path, &error))
}

fn refused(
    path: &str,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> InvalidServiceConfig {
    let inner = error.path().to_string();
    InvalidServiceConfig::new(join(path, &inner), error.inner().to_string())
}

/// The path of `inner`, which is relative to `path`; serde writes "here" as a dot.
pub(super) fn join(path: &str, inner: &str) -> String {
    match (path, inner) {
        (path, "." | "") => path.to_owned(),
        ("", inner) => inner.to_owned(),
        (path, inner) if inner.starts_with('[') => format!("{path}{inner}"),
        (path, inner) => format!("{path}.{inner}"),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            if let Some(_earlier) = map.insert(key.clone(), value) {
                return Err(A::Error::custom(format!("has the key {key:?} twice")));
            }
        }
        map.retain(|_, value| !value.is_null());
        Ok(map.into())
    }
}
