//! The settings of what goes around a policy, outlier detection apart.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use http::HeaderName;
use serde::{Deserialize, Deserializer, de::Error};

use super::{
    duration,
    number::{self, Percent},
};

/// `random_subsetting` (gRFC A68): this client uses that many endpoints, chosen at random.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RandomSubsetting {
    #[serde(deserialize_with = "number::positive_uint")]
    pub(crate) subset_size: NonZeroU32,
}

/// `zone_preference`: calls stay in the client's own zone while it can take them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ZonePreference {
    /// With fewer ready endpoints than these, the own zone has no preference.
    #[serde(deserialize_with = "number::positive_uint")]
    pub(crate) min_endpoints: NonZeroU32,
    /// How much more than its usual load an endpoint is trusted with before calls spill over; at least 1.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) overprovisioning: f64,
}

impl Default for ZonePreference {
    fn default() -> Self {
        Self {
            min_endpoints: NonZeroU32::MIN,
            overprovisioning: 1.4,
        }
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let factor = f64::deserialize(deserializer)?;
    if factor.is_finite() && factor >= 1.0 {
        Ok(factor)
    } else {
        Err(D::Error::custom(format!("{factor} is below 1")))
    }
}

/// `slow_start`: an endpoint that has just become ready is given its share of calls little by little.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SlowStart {
    /// How long it takes to the whole share.
    #[serde(deserialize_with = "duration::positive")]
    pub(crate) window: Duration,
    /// 1 grows evenly, more gives most of the share early; above 0.
    #[serde(default = "evenly", deserialize_with = "number::positive")]
    pub(crate) aggression: f64,
    /// What an endpoint begins with; above 0.
    #[serde(default = "ten_percent", deserialize_with = "number::positive_percent")]
    pub(crate) min_weight_percent: Percent,
}

fn evenly() -> f64 {
    1.0
}

fn ten_percent() -> Percent {
    const { Percent::new(10).expect("a percent") }
}

const HALF: Percent = Percent::new(50).expect("a percent");

/// `panic_threshold`: when too few endpoints are healthy, all are used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct PanicThreshold {
    /// Below this share of healthy endpoints; 0 switches it off.
    pub(crate) healthy_percent: Percent,
}

impl Default for PanicThreshold {
    fn default() -> Self {
        Self {
            healthy_percent: HALF,
        }
    }
}

/// `mass_loss_protection`: endpoints that the registry drops all at once serve on while they are connected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct MassLossProtection {
    /// What share of the endpoints must go at once.
    pub(crate) lost_percent: Percent,
    /// How long they are held on to at most.
    #[serde(deserialize_with = "duration::duration")]
    pub(crate) hold_for: Duration,
}

impl Default for MassLossProtection {
    fn default() -> Self {
        Self {
            lost_percent: HALF,
            hold_for: Duration::from_mins(5),
        }
    }
}

/// `canary`: some instances are given a set share of the calls.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "CanaryWire")]
pub(crate) struct Canary {
    /// The version that the canary's instances have, when it counts.
    pub(crate) version: Option<String>,
    /// Labels that they have, all of them.
    pub(crate) labels: BTreeMap<String, String>,
    /// Calls with equal values of this header go the same way; `always` and `never` are obeyed.
    pub(crate) header: Option<HeaderName>,
    /// What share of the calls goes to the canary, of those with the header what share of its values.
    pub(crate) share_percent: Percent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CanaryWire {
    version: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "header")]
    header: Option<HeaderName>,
    share_percent: Percent,
}

fn header<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HeaderName>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let read = HeaderName::try_from(&name);
    read.map(Some)
        .map_err(|_| D::Error::custom(format!("{name:?} cannot be the name of a header")))
}

impl TryFrom<CanaryWire> for Canary {
    type Error = &'static str;

    fn try_from(wire: CanaryWire) -> Result<Self, Self::Error> {
        if wire.version.is_none() && wire.labels.is_empty() {
            return Err("chooses no instances; give a version, labels, or both");
        }
        Ok(Self {
            version: wire.version,
            labels: wire.labels,
            header: wire.header,
            share_percent: wire.share_percent,
        })
    }
}
