//! gRPC's service config (grpc/grpc `doc/service_config.md`, gRFC A2, A6, A17, A21, A24, A50, A68, A105): how the calls
//! to a service are made. `docs/service-config.md` is its reference.
//!
//! Read here and nowhere else; to a registry it is an opaque document. Stricter than A21 in one thing: a key that is not
//! known is refused and not passed over, so that nothing that was asked for is left out in silence.

mod attempts;
pub(crate) mod duration;
mod json;
mod load_balancing;
mod method;
mod method_table;
pub(crate) mod number;
mod outlier_detection;
mod throttling;
mod wrappers;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod tests;

use std::{fmt, num::NonZeroU32, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

pub(crate) use attempts::{HedgingPolicy, RetryPolicy};
pub(crate) use load_balancing::{Balancing, goes_around};
pub(crate) use method::MethodConfig;
pub(crate) use throttling::RetryThrottling;
pub(crate) use wrappers::{Canary, SlowStart, ZonePreference};

use crate::policy::Policies;
use method_table::MethodTable;

/// Why a service config was refused; the message begins with the path of what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidServiceConfig {
    path: String,
    problem: String,
}

impl InvalidServiceConfig {
    /// An empty path is the whole config's.
    fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        let path = Some(path.into()).filter(|path| !path.is_empty());
        Self {
            path: path.unwrap_or_else(|| "service config".into()),
            problem: problem.into(),
        }
    }
}

/// Whether a channel could use this text as its service config; an error says what is wrong, by its path. Policies of one's
/// own are not known here.
///
/// ```
/// assert!(balance::check_service_config(r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#).is_ok());
/// let refused = balance::check_service_config(r#"{"loadBalancingConfig": [{"fastest": {}}]}"#);
/// assert!(refused.unwrap_err().to_string().starts_with("loadBalancingConfig"));
/// ```
pub fn check_service_config(json: &str) -> Result<(), InvalidServiceConfig> {
    ServiceConfig::parse(json, &Policies::default()).map(drop)
}

/// A service config that has been read and checked.
///
/// Prints as the text that it was read from. Two are equal when they say the same, in whatever words.
#[derive(Debug, Clone)]
pub(crate) struct ServiceConfig {
    /// What the config asks for; `None` when it leaves that to the channel.
    pub(crate) balancing: Option<Balancing>,
    pub(crate) retry_throttling: Option<RetryThrottling>,
    /// The service to ask an endpoint's health service about (gRFC A17), which may be the empty name; `None` asks
    /// nothing.
    pub(crate) health_check: Option<Arc<str>>,
    /// How many connections an endpoint may have (gRFC A105); `None` leaves that to the channel, as it does
    /// the cap on the number.
    pub(crate) max_connections: Option<NonZeroU32>,
    methods: MethodTable,
    source: Arc<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    load_balancing_config: Option<Value>,
    load_balancing_policy: Option<String>,
    #[serde(default)]
    method_config: Vec<method::Entry>,
    retry_throttling: Option<RetryThrottling>,
    health_check_config: Option<HealthCheckWire>,
    connection_scaling: Option<ConnectionScalingWire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HealthCheckWire {
    service_name: Option<Arc<str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConnectionScalingWire {
    #[serde(default, deserialize_with = "number::optional_positive_uint")]
    max_connections_per_subchannel: Option<NonZeroU32>,
}

impl ServiceConfig {
    /// Reads the JSON text of a service config, which may name any of `policies`.
    pub(crate) fn parse(text: &str, policies: &Policies) -> Result<Self, InvalidServiceConfig> {
        let value = json::parse(text)?;
        if !value.is_object() {
            return Err(InvalidServiceConfig::new("", "is not a JSON object"));
        }
        let wire: Wire = json::read("", value)?;
        // A24: the deprecated name counts only when there is no list.
        let balancing = match (wire.load_balancing_config, wire.load_balancing_policy) {
            (Some(list), _) => Some(load_balancing::read("loadBalancingConfig", list, policies)?),
            (None, Some(name)) => Some(load_balancing::read_name(&name, policies)?),
            (None, None) => None,
        };
        Ok(Self {
            balancing,
            retry_throttling: wire.retry_throttling,
            health_check: wire
                .health_check_config
                .and_then(|config| config.service_name),
            max_connections: wire
                .connection_scaling
                .and_then(|config| config.max_connections_per_subchannel),
            methods: MethodTable::new(wire.method_config)?,
            source: text.into(),
        })
    }

    /// What holds for a method, by the path of its requests (`/package.Service/Method`).
    pub(crate) fn method(&self, path: &str) -> Option<&Arc<MethodConfig>> {
        self.methods.get(path)
    }
}

/// The config that leaves all to the channel.
impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            balancing: None,
            retry_throttling: None,
            health_check: None,
            max_connections: None,
            methods: MethodTable::default(),
            source: "{}".into(),
        }
    }
}

impl PartialEq for ServiceConfig {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            balancing,
            retry_throttling,
            health_check,
            max_connections,
            methods,
            source: _,
        } = self;
        *balancing == other.balancing
            && *retry_throttling == other.retry_throttling
            && *health_check == other.health_check
            && *max_connections == other.max_connections
            && *methods == other.methods
    }
}

impl fmt::Display for ServiceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}
