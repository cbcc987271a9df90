//! What is asked of every connected endpoint of a channel; it changes live.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::SubchannelContext;
use crate::{
    health::HealthCheck, orca::OutOfBand, policy::LoadReports, service_config::ServiceConfig,
};

/// What the service config and the policy ask for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// The service whose health is watched (gRFC A17).
    pub(crate) health_check: Option<Arc<str>>,
    /// The load reports that the policy wants (gRFC A51).
    pub(crate) reports: Option<LoadReports>,
    /// How many connections an endpoint may have (gRFC A105).
    pub(crate) connections: usize,
}

impl Wanted {
    /// Where the service config does not say. gRFC A105 has 1 here, and lets go no connection. Here those that are not
    /// needed any more are let go, so that more cost something only while they save calls from waiting; and servers and
    /// proxies allow a hundred or two streams on each, so that a healthy endpoint never needs more than a few: a pile of
    /// calls that is larger than that is an overload, which more connections would add to.
    const CONNECTIONS: u32 = 4;
    /// gRFC A105: whatever the service config says.
    const MOST_CONNECTIONS: u32 = 10;

    /// What `config` asks for, and a policy that wants such `reports`.
    pub(crate) fn by(config: &ServiceConfig, reports: Option<LoadReports>) -> Self {
        let connections = config
            .max_connections
            .map_or(Self::CONNECTIONS, NonZeroU32::get);
        Self {
            health_check: config.health_check.clone(),
            reports,
            connections: connections.min(Self::MOST_CONNECTIONS) as usize,
        }
    }

    /// The same for a policy that looks at connections only.
    pub(crate) fn without_health_check(self) -> Self {
        Self {
            health_check: None,
            ..self
        }
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self::by(&ServiceConfig::default(), None)
    }
}

/// The same, ready to be done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upkeep {
    pub(super) wanted: Wanted,
    pub(super) health_check: Option<Arc<HealthCheck>>,
    pub(super) reports: Option<Arc<Reports>>,
}

/// Load reports out of band, and what an error counts in them.
#[derive(Debug)]
pub(super) struct Reports {
    pub(super) stream: OutOfBand,
    pub(super) error_penalty: f64,
}

impl Upkeep {
    /// By which all endpoints are told; nothing is asked for yet.
    pub(crate) fn channel() -> watch::Sender<Self> {
        watch::Sender::default()
    }
}

impl SubchannelContext {
    /// Asks all endpoints for that from now on. What has not changed goes on undisturbed.
    pub(crate) fn want(&self, wanted: Wanted) {
        let in_trailers = wanted.reports.filter(|r| r.out_of_band.is_none());
        self.reports_in_trailers
            .set(in_trailers.map(|reports| reports.error_penalty));
        self.upkeep.send_if_modified(|upkeep| {
            if upkeep.wanted == wanted {
                return false;
            }
            if upkeep.wanted.health_check != wanted.health_check {
                upkeep.health_check = wanted.health_check.as_deref().map(|service| {
                    Arc::new(HealthCheck::new(service, self.head.clone(), self.backoff))
                });
            }
            if upkeep.wanted.reports != wanted.reports {
                upkeep.reports = wanted.reports.and_then(|reports| self.reports(reports));
            }
            upkeep.wanted = wanted;
            true
        });
    }

    fn reports(&self, wanted: LoadReports) -> Option<Arc<Reports>> {
        Some(Arc::new(Reports {
            stream: OutOfBand::new(wanted.out_of_band?, self.head.clone(), self.backoff),
            error_penalty: wanted.error_penalty,
        }))
    }
}

/// What an error counts in load reports, while they are wanted: asked at the end of each call, with one atomic load.
#[derive(Debug)]
pub(crate) struct ErrorPenalty(AtomicU64);

impl ErrorPenalty {
    /// No penalty has these bits.
    const NONE: u64 = u64::MAX;

    pub(super) fn get(&self) -> Option<f64> {
        let bits = self.0.load(Ordering::Relaxed);
        (bits != Self::NONE).then(|| f64::from_bits(bits))
    }

    fn set(&self, penalty: Option<f64>) {
        let bits = penalty.map_or(Self::NONE, f64::to_bits);
        self.0.store(bits, Ordering::Relaxed);
    }
}

impl Default for ErrorPenalty {
    fn default() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }
}
