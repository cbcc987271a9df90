//! `retryPolicy` and `hedgingPolicy`: when a call is made more than once (gRFC A6).

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

use super::{duration, number};
use crate::status::Code;

/// A6: more attempts than these count as these.
const MOST_ATTEMPTS: u32 = 5;

/// When and how a call is tried again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryPolicy {
    /// The first attempt counts; 2 to 5.
    #[serde(deserialize_with = "max_attempts")]
    pub(crate) max_attempts: u32,
    #[serde(deserialize_with = "duration::positive")]
    pub(crate) initial_backoff: Duration,
    #[serde(deserialize_with = "duration::positive")]
    pub(crate) max_backoff: Duration,
    #[serde(deserialize_with = "number::positive")]
    pub(crate) backoff_multiplier: f64,
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) retryable_status_codes: StatusCodes,
}

impl RetryPolicy {
    pub(crate) fn retries(&self, code: Code) -> bool {
        self.retryable_status_codes.contains(code)
    }
}

/// How a call is sent again before its answer is there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HedgingPolicy {
    /// The first attempt counts; 2 to 5.
    #[serde(deserialize_with = "max_attempts")]
    pub(crate) max_attempts: u32,
    /// How long an attempt is waited for before the next is sent; with zero, all are sent at once.
    #[serde(default, deserialize_with = "duration::duration")]
    pub(crate) hedging_delay: Duration,
    /// An attempt that fails with one of these calls for the next; with any other code, the call has failed.
    #[serde(default)]
    pub(crate) non_fatal_status_codes: StatusCodes,
}

fn max_attempts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        few @ (0 | 1) => Err(D::Error::custom(format!(
            "{few} is too few; the first attempt and one more are 2"
        ))),
        attempts => Ok(attempts.min(MOST_ATTEMPTS)),
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCodes, D::Error> {
    match StatusCodes::deserialize(deserializer)? {
        StatusCodes(0) => Err(D::Error::custom("names no code to retry on")),
        codes => Ok(codes),
    }
}

/// A set of status codes: one bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StatusCodes(u32);

impl StatusCodes {
    pub(crate) fn contains(self, code: Code) -> bool {
        self.0 & (1 << code.number()) != 0
    }
}

impl FromIterator<Code> for StatusCodes {
    fn from_iter<I: IntoIterator<Item = Code>>(codes: I) -> Self {
        Self(
            codes
                .into_iter()
                .fold(0, |bits, code| bits | 1 << code.number()),
        )
    }
}

impl<'de> Deserialize<'de> for StatusCodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let codes = Vec::<StatusCode>::deserialize(deserializer)?;
        Ok(codes.into_iter().map(|StatusCode(code)| code).collect())
    }
}

/// A code by its number, or by its name in any case (A6).
struct StatusCode(Code);

impl<'de> Deserialize<'de> for StatusCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let code = match &value {
            Value::String(name) => Code::from_name(name),
            number => number
                .as_u64()
                .filter(|number| *number <= 16)
                .and_then(|number| usize::try_from(number).ok())
                .map(Code::from_number),
        };
        code.map(Self).ok_or_else(|| {
            D::Error::custom(format!(
                "{value} is not a gRPC status code; write its name, as in \"UNAVAILABLE\", or its number, 0 to 16"
            ))
        })
    }
}
