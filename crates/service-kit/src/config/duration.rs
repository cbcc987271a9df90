//! Durations as people write them: `#[serde(with = "service_kit::config::duration")]` reads and writes `"10s"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Writes a duration with its unit.
pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*duration))
}

/// Reads a number with its unit: `500ms`, `10s`, `1m 30s`.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|_| {
        D::Error::custom(format_args!(
            "{text:?} is no duration; a duration is a number with its unit, such as 500ms, 10s or 2m"
        ))
    })
}
