//! Where service configs come from: the registry, when it has one, and else the builder.

use std::{future::pending, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use registry::{Document, DocumentView, DocumentWatch, InvalidDocument, Origin};
use tokio::time::{Instant, timeout};

use super::Stats;
use crate::{policy::Policies, service_config::ServiceConfig};

/// The longest that the first call waits to hear whether the registry has a service config.
const FIRST_CONFIG: Duration = Duration::from_secs(1);

pub(super) struct ConfigSource {
    policies: Policies,
    built_in: ServiceConfig,
    watch: Option<DocumentWatch>,
    /// The last good one.
    in_force: ServiceConfig,
    /// What the registry has and cannot be used, as long as it has that.
    refused: Option<Unusable>,
    told: Arc<ArcSwap<Provenance>>,
    stats: Arc<Stats>,
}

/// Where the service config in force was read, and why another is not: for whoever asks.
#[derive(Debug, Default, Clone)]
pub(super) struct Provenance {
    /// Of the config in force; `None` of the builder's.
    pub(super) origin: Option<Origin>,
    pub(super) refused: Option<Refused>,
}

/// A service config that cannot be used.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    pub(super) error: Arc<str>,
    /// `None` of what is not even text.
    pub(super) origin: Option<Origin>,
    pub(super) since: Instant,
}

/// What the registry has in place of a service config.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unusable {
    Text(Document),
    NoText(InvalidDocument),
}

impl ConfigSource {
    pub(super) fn new(
        policies: Policies,
        built_in: ServiceConfig,
        watch: Option<DocumentWatch>,
        told: Arc<ArcSwap<Provenance>>,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            policies,
            in_force: built_in.clone(),
            built_in,
            watch,
            refused: None,
            told,
            stats,
        }
    }

    /// The config to begin with: the registry's, if it is known soon whether it has one.
    pub(super) async fn first(&mut self) -> ServiceConfig {
        if let Some(watch) = &mut self.watch {
            // Whatever is known by then counts.
            let _ = timeout(FIRST_CONFIG, watch.first()).await;
            let view = watch.view();
            self.take(view);
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
            self.take(view);
            if self.in_force != before {
                tracing::info!("another service config is in force");
                return self.in_force.clone();
            }
        }
    }

    /// Puts what the registry has in force; a bad one leaves the last good one.
    fn take(&mut self, view: DocumentView) {
        if let Some(invalid) = view.refused {
            let error = invalid.to_string();
            return self.refuse(Unusable::NoText(invalid), &error, None);
        }
        if !view.is_known {
            return;
        }
        let Some(document) = view.document else {
            return self.put(self.built_in.clone(), None);
        };
        let origin = document.origin().cloned();
        match ServiceConfig::parse(document.as_str(), &self.policies) {
            Ok(config) => self.put(config, origin),
            Err(error) => self.refuse(Unusable::Text(document), &error.to_string(), origin),
        }
    }

    fn put(&mut self, config: ServiceConfig, origin: Option<Origin>) {
        (self.in_force, self.refused) = (config, None);
        let refused = None;
        self.told.store(Arc::new(Provenance { origin, refused }));
    }

    /// Says what is wrong with it, once.
    fn refuse(&mut self, what: Unusable, error: &str, origin: Option<Origin>) {
        let told = self.told.load();
        let mut since = told.refused.as_ref().map(|refused| refused.since);
        if self.refused.as_ref() != Some(&what) {
            tracing::warn!(%error, "the registry's service config is not usable; the last good one stays in force");
            self.stats.refused_config();
            self.refused = Some(what);
            since = None;
        }
        let refused = Refused {
            error: error.into(),
            origin,
            since: since.unwrap_or_else(Instant::now),
        };
        self.told.store(Arc::new(Provenance {
            origin: told.origin.clone(),
            refused: Some(refused),
        }));
    }
}
