//! Each call to the next endpoint, those that weigh more more often (gRFC A58).
//!
//! An endpoint weighs what its server's load reports make of it, as long as they are fresh, and what the registry says
//! before and after.

mod blend;
mod stride;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use tokio::time::Instant;

use super::{CallInfo, Endpoint, Endpoints, LoadReports, Pick, Picker, Plan, Policy};
use crate::{orca::NoWeight, service_config::duration::duration};
use blend::blend;
use stride::Strides;

/// gRFC A58's.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Settings {
    enable_oob_load_report: bool,
    #[serde(deserialize_with = "duration")]
    oob_reporting_period: Duration,
    #[serde(deserialize_with = "duration")]
    blackout_period: Duration,
    #[serde(deserialize_with = "duration")]
    weight_expiration_period: Duration,
    #[serde(deserialize_with = "duration")]
    weight_update_period: Duration,
    #[serde(deserialize_with = "penalty")]
    error_utilization_penalty: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enable_oob_load_report: false,
            oob_reporting_period: Duration::from_secs(10),
            blackout_period: Duration::from_secs(10),
            weight_expiration_period: Duration::from_mins(3),
            weight_update_period: Duration::from_secs(1),
            error_utilization_penalty: 1.0,
        }
    }
}

fn penalty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let penalty = f64::deserialize(deserializer)?;
    if penalty >= 0.0 && penalty.is_finite() {
        Ok(penalty)
    } else {
        Err(D::Error::custom(format!(
            "{penalty} is negative; 0 takes no notice of errors"
        )))
    }
}

pub(super) struct WeightedRoundRobin {
    reports: LoadReports,
    update_period: Duration,
    /// Survives the pickers, so that a rebuild does not start over.
    turns: Arc<AtomicU64>,
}

impl WeightedRoundRobin {
    /// A58: weights are not looked at more often than this.
    const LEAST_UPDATE_PERIOD: Duration = Duration::from_millis(100);

    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            reports: LoadReports {
                out_of_band: settings
                    .enable_oob_load_report
                    .then_some(settings.oob_reporting_period),
                blackout: settings.blackout_period,
                expiration: settings.weight_expiration_period,
                error_penalty: settings.error_utilization_penalty,
            },
            update_period: settings.weight_update_period.max(Self::LEAST_UPDATE_PERIOD),
            // Not from 0: channels that live for one call would otherwise all call the first.
            turns: Arc::new(AtomicU64::new(fastrand::u32(..).into())),
        }
    }

    fn weights(&self, ready: &[Arc<Endpoint>]) -> Vec<f64> {
        let now = Instant::now();
        let registered: Vec<f64> = ready.iter().map(|e| e.weight().into()).collect();
        let reported: Vec<Result<f64, NoWeight>> = ready
            .iter()
            .map(|endpoint| endpoint.load_report_weight(&self.reports, now))
            .collect();
        measure(ready, &reported);
        let reported: Vec<Option<f64>> = reported.into_iter().map(Result::ok).collect();
        blend(registered, &reported)
    }
}

/// Tells the endpoints' channel what was found of their weights.
fn measure(ready: &[Arc<Endpoint>], reported: &[Result<f64, NoWeight>]) {
    let first = ready.first();
    let Some(telemetry) = first.and_then(|first| first.subchannel().telemetry()) else {
        return;
    };
    let by_reports = blend::suffice(reported.iter().flatten().count());
    telemetry.weighed(reported, by_reports, || {
        let zone = ready.first()?.zone()?;
        let is_there = |endpoint: &Arc<Endpoint>| endpoint.zone().as_ref() == Some(&zone);
        ready.iter().all(is_there).then_some(zone)
    });
}

impl Policy for WeightedRoundRobin {
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        let plan = endpoints.connect_all(|ready| {
            Arc::new(WeightedRoundRobinPicker {
                strides: Strides::new(&self.weights(&ready)),
                ready,
                turns: Arc::clone(&self.turns),
            })
        });
        plan.again_in(self.update_period)
    }

    fn load_reports(&self) -> Option<LoadReports> {
        Some(self.reports)
    }
}

struct WeightedRoundRobinPicker {
    ready: Arc<[Arc<Endpoint>]>,
    strides: Strides,
    turns: Arc<AtomicU64>,
}

impl Picker for WeightedRoundRobinPicker {
    fn pick(&self, _call: &CallInfo<'_>) -> Pick<'_> {
        let place = self
            .strides
            .pick(|| self.turns.fetch_add(1, Ordering::Relaxed));
        Pick::Ready(&self.ready[place])
    }
}
