//! `outlier_detection` as it is written (gRFC A50), and as the detector takes it.

use std::{num::NonZeroU32, time::Duration};

use serde::Deserialize;

use super::{
    duration,
    number::{self, Percent},
};
use crate::outlier::{ConsecutiveFailures, FailurePercentage, Settings, SuccessRate};

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
    consecutive_failures: Option<ConsecutiveFailuresEjection>,
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
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ConsecutiveFailuresEjection {
    #[serde(deserialize_with = "number::optional_positive_uint")]
    threshold: Option<NonZeroU32>,
    enforcement_percentage: Option<Percent>,
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
            consecutive_failures: written.consecutive_failures.map(Into::into),
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

impl From<ConsecutiveFailuresEjection> for ConsecutiveFailures {
    fn from(written: ConsecutiveFailuresEjection) -> Self {
        let usual = Self::default();
        Self {
            threshold: written.threshold.unwrap_or(usual.threshold),
            enforcement_percentage: written
                .enforcement_percentage
                .map_or(usual.enforcement_percentage, Into::into),
        }
    }
}
