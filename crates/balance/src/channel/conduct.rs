//! How a channel treats its calls and its endpoints: the service config that is in force, and what the builder says.

use std::{future::pending, sync::Arc, time::Duration};

use registry::{Document, DocumentWatch, Zone};
use tokio::time::timeout;

use super::{Stats, entries::Leniency};
use crate::{
    outlier::Settings,
    policy::{LoadReports, Policies, PolicyConfig},
    service_config::{Balancing, ServiceConfig},
    subchannel::Wanted,
};

/// The longest that the first call waits to hear whether the registry has a service config.
const FIRST_CONFIG: Duration = Duration::from_secs(1);

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

/// Where service configs come from: the registry, when it has one, and else the builder.
pub(super) struct ConfigSource {
    policies: Policies,
    built_in: ServiceConfig,
    watch: Option<DocumentWatch>,
    /// The last good one.
    in_force: ServiceConfig,
    /// The last bad one: told once.
    refused: Option<Document>,
    stats: Arc<Stats>,
}

impl ConfigSource {
    pub(super) fn new(
        policies: Policies,
        built_in: ServiceConfig,
        watch: Option<DocumentWatch>,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            policies,
            in_force: built_in.clone(),
            built_in,
            watch,
            refused: None,
            stats,
        }
    }

    /// The config to begin with: the registry's, if it is known soon whether it has one.
    pub(super) async fn first(&mut self) -> ServiceConfig {
        if let Some(watch) = &mut self.watch
            && timeout(FIRST_CONFIG, watch.first()).await.is_ok()
        {
            let document = watch.view().document;
            self.take(document);
        }
        self.in_force.clone()
    }

    /// Waits for another good config than the one in force. Cancellation safe.
    pub(super) async fn changed(&mut self) -> ServiceConfig {
        loop {
            let view = match &mut self.watch {
                Some(watch) => watch.changed().await,
                None => pending().await,
            };
            let before = self.in_force.clone();
            if view.is_known {
                self.take(view.document);
            }
            if self.in_force != before {
                tracing::info!("another service config is in force");
                return self.in_force.clone();
            }
        }
    }

    /// Puts what the registry has in force; a bad one leaves the last good one.
    fn take(&mut self, document: Option<Document>) {
        let Some(document) = document else {
            self.in_force = self.built_in.clone();
            return;
        };
        match ServiceConfig::parse(document.as_str(), &self.policies) {
            Ok(config) => self.in_force = config,
            Err(error) if self.refused.as_ref() != Some(&document) => {
                tracing::warn!(%error, "the registry's service config is not usable; the last good one stays in force");
                self.stats.refused_config();
                self.refused = Some(document);
            }
            Err(_told_already) => {}
        }
    }
}
