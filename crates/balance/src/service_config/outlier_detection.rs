//! `outlier_detection` as it is written (gRFC A50), and as the detector takes it.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Deserializer};

use super::{
    duration,
    number::{self, Percent},
};
use crate::outlier::{FailurePercentage, Settings, SuccessRate};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct OutlierDetection {
    #[serde(deserialize_with = "duration::optional")]
    interval: Option<Duration>,
    #[serde(deserialize_with = "duration::optional")]
    base_ejection_time: Option<Duration>,
    #[serde(deserialize_with = "duration::optional")]
    max_ejection_time: Option<Duration>,
    max_ejection_percent: Option<Percent>,
    success_rate_ejection: Option<SuccessRateEjection>,
    failure_percentage_ejection: Option<FailurePercentageEjection>,
    consecutive_failures: Option<ConsecutiveFailures>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct SuccessRateEjection {
    #[serde(deserialize_with = "number::optional_uint")]
    stdev_factor: Option<u32>,
    enforcement_percentage: Option<Percent>,
    #[serde(deserialize_with = "number::optional_uint")]
    minimum_hosts: Option<u32>,
    #[serde(deserialize_with = "number::optional_uint")]
    request_volume: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FailurePercentageEjection {
    threshold: Option<Percent>,
    enforcement_percentage: Option<Percent>,
    #[serde(deserialize_with = "number::optional_uint")]
    minimum_hosts: Option<u32>,
    #[serde(deserialize_with = "number::optional_uint")]
    request_volume: Option<u32>,
}

/// Ours, and not of A50.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConsecutiveFailures {
    #[serde(default = "five", deserialize_with = "positive")]
    threshold: NonZeroU32,
}

fn five() -> NonZeroU32 {
    const { NonZeroU32::new(5).expect("not zero") }
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroU32, D::Error> {
    number::positive_uint(deserializer)
}

impl From<OutlierDetection> for Settings {
    fn from(written: OutlierDetection) -> Self {
        let usual = Self::default();
        Self {
            interval: written.interval.unwrap_or(usual.interval),
            base_ejection_time: written
                .base_ejection_time
                .unwrap_or(usual.base_ejection_time),
            max_ejection_time: written.max_ejection_time.unwrap_or(usual.max_ejection_time),
            max_ejection_percent: written
                .max_ejection_percent
                .map_or(usual.max_ejection_percent, Into::into),
            success_rate: written.success_rate_ejection.map(Into::into),
            failure_percentage: written.failure_percentage_ejection.map(Into::into),
            consecutive_failures: written.consecutive_failures.map(|row| row.threshold),
        }
    }
}

impl From<SuccessRateEjection> for SuccessRate {
    fn from(written: SuccessRateEjection) -> Self {
        let usual = Self::default();
        Self {
            stdev_factor: written.stdev_factor.unwrap_or(usual.stdev_factor),
            enforcement_percentage: written
                .enforcement_percentage
                .map_or(usual.enforcement_percentage, Into::into),
            minimum_hosts: written.minimum_hosts.unwrap_or(usual.minimum_hosts),
            request_volume: written.request_volume.unwrap_or(usual.request_volume),
        }
    }
}

impl From<FailurePercentageEjection> for FailurePercentage {
    fn from(written: FailurePercentageEjection) -> Self {
        let usual = Self::default();
        Self {
            threshold: written.threshold.map_or(usual.threshold, Into::into),
            enforcement_percentage: written
                .enforcement_percentage
                .map_or(usual.enforcement_percentage, Into::into),
            minimum_hosts: written.minimum_hosts.unwrap_or(usual.minimum_hosts),
            request_volume: written.request_volume.unwrap_or(usual.request_volume),
        }
    }
}
