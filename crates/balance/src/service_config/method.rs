//! `methodConfig`: what holds for the calls of some methods.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, de::Error};

use super::{InvalidServiceConfig, duration};
use crate::status::Code;

/// What holds for the calls of a method.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct MethodConfig {
    pub(crate) timeout: Option<Duration>,
    pub(crate) wait_for_ready: Option<bool>,
    pub(crate) retry: Option<RetryPolicy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Wire {
    name: Vec<Name>,
    #[serde(default, deserialize_with = "duration::optional")]
    timeout: Option<Duration>,
    #[serde(default)]
    wait_for_ready: Option<bool>,
    #[serde(default)]
    retry_policy: Option<RetryPolicy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    #[serde(default)]
    service: String,
    #[serde(default)]
    method: String,
}

/// When and how a call is tried again (gRFC A6).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryPolicy {
    /// The first attempt counts; 2 to 5.
    #[serde(deserialize_with = "max_attempts")]
    pub(crate) max_attempts: u32,
    #[serde(deserialize_with = "positive")]
    pub(crate) initial_backoff: Duration,
    #[serde(deserialize_with = "positive")]
    pub(crate) max_backoff: Duration,
    #[serde(deserialize_with = "multiplier")]
    pub(crate) backoff_multiplier: f64,
    #[serde(deserialize_with = "codes")]
    retryable_status_codes: Vec<Code>,
}

impl RetryPolicy {
    pub(crate) fn retries(&self, code: Code) -> bool {
        self.retryable_status_codes.contains(&code)
    }
}

/// A6: at least 2; what is above 5 counts as 5.
fn max_attempts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        few @ (0 | 1) => Err(D::Error::custom(format!(
            "{few} is too few; an attempt and a retry are 2"
        ))),
        attempts => Ok(attempts.min(5)),
    }
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match duration::duration(deserializer)? {
        Duration::ZERO => Err(D::Error::custom("a backoff is longer than 0s")),
        backoff => Ok(backoff),
    }
}

fn multiplier<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let multiplier = f64::deserialize(deserializer)?;
    if multiplier.is_finite() && multiplier > 0.0 {
        Ok(multiplier)
    } else {
        Err(D::Error::custom(format!(
            "{multiplier} is not a number above 0"
        )))
    }
}

/// Codes by name or by number, at least one.
fn codes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Code>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelling {
        Name(String),
        Number(usize),
    }
    let codes = Vec::<Spelling>::deserialize(deserializer)?;
    if codes.is_empty() {
        return Err(D::Error::custom("names no code to retry on"));
    }
    let read = |spelling| match spelling {
        Spelling::Name(name) => Code::from_name(&name).ok_or_else(|| {
            D::Error::custom(format!("{name:?} is not the name of a gRPC status code"))
        }),
        Spelling::Number(number @ 0..=16) => Ok(Code::from_number(number)),
        Spelling::Number(number) => Err(D::Error::custom(format!(
            "{number} is not the number of a gRPC status code"
        ))),
    };
    codes.into_iter().map(read).collect()
}

/// Finds what holds for a method: an entry for it, else for its service, else for all.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct MethodTable {
    /// By `/service/method`, by `/service/` and, for all methods, by the empty text.
    entries: HashMap<String, Arc<MethodConfig>>,
}

impl MethodTable {
    pub(super) fn new(list: Vec<Wire>) -> Result<Self, InvalidServiceConfig> {
        let mut entries = HashMap::new();
        for (at, wire) in list.into_iter().enumerate() {
            let Wire {
                name: names,
                timeout,
                wait_for_ready,
                retry_policy: retry,
            } = wire;
            let config = Arc::new(MethodConfig {
                timeout,
                wait_for_ready,
                retry,
            });
            for (index, name) in names.iter().enumerate() {
                let refuse = |problem: &str| {
                    InvalidServiceConfig::new(format!("methodConfig[{at}].name[{index}]"), problem)
                };
                let key = name
                    .key()
                    .ok_or_else(|| refuse("has a method and no service"))?;
                if entries.insert(key, Arc::clone(&config)).is_some() {
                    return Err(refuse("is named twice"));
                }
            }
        }
        Ok(Self { entries })
    }

    pub(super) fn get(&self, path: &str) -> Option<&Arc<MethodConfig>> {
        if self.entries.is_empty() {
            return None;
        }
        let service = path.rfind('/').map_or("", |end| &path[..=end]);
        self.entries
            .get(path)
            .or_else(|| self.entries.get(service))
            .or_else(|| self.entries.get(""))
    }
}

impl Name {
    fn key(&self) -> Option<String> {
        match (self.service.as_str(), self.method.as_str()) {
            ("", "") => Some(String::new()),
            ("", _) => None,
            (service, method) => Some(format!("/{service}/{method}")),
        }
    }
}
