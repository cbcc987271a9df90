//! `methodConfig`: what holds for the calls of some methods.

use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;

use super::{
    attempts::{HedgingPolicy, RetryPolicy},
    duration, number,
};
use crate::transport::Timeout;

/// What holds for the calls of a method.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct MethodConfig {
    pub(crate) timeout: Option<Duration>,
    /// The header that says it.
    pub(crate) timeout_value: Option<HeaderValue>,
    pub(crate) wait_for_ready: Option<bool>,
    /// Never together with `hedging`.
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) hedging: Option<HedgingPolicy>,
    /// Of each message, as it is sent: compressed, when it is.
    pub(crate) max_request_message_bytes: Option<u32>,
    pub(crate) max_response_message_bytes: Option<u32>,
}

impl MethodConfig {
    /// Whether a call may be more than one attempt.
    pub(crate) fn repeats(&self) -> bool {
        self.retry.is_some() || self.hedging.is_some()
    }
}

/// An entry of the list: what holds, and for which methods.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Wire")]
pub(super) struct Entry {
    pub(super) names: Vec<Name>,
    pub(super) config: MethodConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    #[serde(default)]
    name: Vec<Name>,
    #[serde(default, deserialize_with = "duration::optional")]
    timeout: Option<Duration>,
    wait_for_ready: Option<bool>,
    retry_policy: Option<RetryPolicy>,
    hedging_policy: Option<HedgingPolicy>,
    #[serde(default, deserialize_with = "number::optional_uint")]
    max_request_message_bytes: Option<u32>,
    #[serde(default, deserialize_with = "number::optional_uint")]
    max_response_message_bytes: Option<u32>,
}

impl TryFrom<Wire> for Entry {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        // A6: one or the other.
        if wire.retry_policy.is_some() && wire.hedging_policy.is_some() {
            return Err("has a retryPolicy and a hedgingPolicy; a method can have one of them");
        }
        Ok(Self {
            names: wire.name,
            config: MethodConfig {
                timeout: wire.timeout,
                timeout_value: wire.timeout.map(Timeout::write),
                wait_for_ready: wire.wait_for_ready,
                retry: wire.retry_policy,
                hedging: wire.hedging_policy,
                max_request_message_bytes: wire.max_request_message_bytes,
                max_response_message_bytes: wire.max_response_message_bytes,
            },
        })
    }
}

/// Which methods: one, all of a service when `method` is empty, or all when both are.
#[derive(Debug, Deserialize)]
#[serde(try_from = "NameWire")]
pub(super) struct Name {
    pub(super) service: String,
    pub(super) method: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameWire {
    #[serde(default)]
    service: String,
    #[serde(default)]
    method: String,
}

impl TryFrom<NameWire> for Name {
    type Error = String;

    fn try_from(NameWire { service, method }: NameWire) -> Result<Self, Self::Error> {
        if service.is_empty() && !method.is_empty() {
            return Err(format!(
                "has the method {method:?} and no service; name its service too"
            ));
        }
        Ok(Self { service, method })
    }
}
