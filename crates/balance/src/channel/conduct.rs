//! How a channel treats its calls and its endpoints: the service config that is in force, and what the builder says.

use std::time::Duration;

use registry::Zone;

use super::entries::Leniency;
use crate::{
    outlier::Settings,
    policy::{LoadReports, Policies, PolicyConfig},
    service_config::{Balancing, ServiceConfig},
    subchannel::Wanted,
};

/// What the builder says, which holds whatever the service config says.
pub(super) struct Options {
    pub(super) policies: Policies,
    /// The policy that was asked for by name.
    pub(super) policy: Option<PolicyConfig>,
    /// Where the caller runs.
    pub(super) zone: Option<Zone>,
    pub(super) idle_timeout: Option<Duration>,
}

impl Options {
    /// What goes on around the endpoints under that config.
    pub(super) fn balancing(&self, config: &ServiceConfig) -> Balancing {
        let round_robin = || {
            let config = self.policies.by_default("round_robin");
            Balancing::from(config.expect("comes with this crate, and needs no settings"))
        };
        let configured = config.balancing.clone();
        match &self.policy {
            Some(policy) => Balancing {
                policy: policy.clone(),
                ..configured.unwrap_or_else(round_robin)
            },
            None => configured.unwrap_or_else(round_robin),
        }
    }
}

/// How lenient a channel is under that balancing. Protection against mass loss is on without being asked for.
pub(super) fn leniency(balancing: &Balancing) -> Leniency {
    let mass_loss = balancing.mass_loss.clone().unwrap_or_default();
    let panic = balancing.panic_threshold.as_ref();
    Leniency {
        panic_percent: panic.map_or(0, |panic| panic.healthy_percent.into()),
        lost_percent: mass_loss.lost_percent.into(),
        hold_for: mass_loss.hold_for,
    }
}

/// Whom the outlier detection finds under that balancing.
pub(super) fn outliers(balancing: &Balancing) -> Settings {
    balancing.outlier_detection.clone().unwrap_or_default()
}

/// What is asked of every connected endpoint under that config.
pub(super) fn wanted(
    config: &ServiceConfig,
    balancing: &Balancing,
    reports: Option<LoadReports>,
) -> Wanted {
    let wanted = Wanted::by(config, reports);
    // gRFC A17: it stays where it is connected.
    if balancing.policy.name() == "pick_first" {
        wanted.without_health_check()
    } else {
        wanted
    }
}
