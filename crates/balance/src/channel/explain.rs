//! Why each endpoint is, or is not, being picked.

mod endpoint;

use std::collections::HashSet;

use http::HeaderMap;
use registry::{Freshness, Instance, Intent, Origin, Snapshot, Status};
use serde::Serialize;

use super::{Published, Shared, config_source::Refused};
use crate::{
    policy::{CallInfo, Pick},
    subchannel::ConnectivityState,
    target::{Selector, Target},
};

use endpoint::Recent;
pub use endpoint::{ConnectionExplanation, EjectionExplanation, EndpointExplanation};

/// How a channel stands; serialized for a debug page. `docs/debugging.md` says how to read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// What the channel goes to.
    pub target: String,
    /// Its connectivity state, in gRPC's words: `READY`.
    pub state: String,
    /// Why calls fail now, when they do.
    pub failing: Option<String>,
    /// Whether the list of endpoints is known to be current: `live`, `starting`, or since when and why it is not.
    pub freshness: String,
    /// For how long the list has not been known to be current, in milliseconds; `None` while it is.
    pub stale_for_ms: Option<u128>,
    /// The revision of the list, by the registry's count; `None` while there is no list.
    pub revision: Option<u64>,
    /// Calls that were let in and have not ended.
    pub calls_in_flight: usize,
    /// Those among them that wait for an endpoint, or for a free stream.
    pub calls_queued: usize,
    /// The service config in force, as it was written.
    pub service_config: String,
    /// Where in the registry that stands; `None` of the channel's own.
    pub service_config_key: Option<String>,
    /// When it was written there, by the registry's count.
    pub service_config_revision: Option<u64>,
    /// The registry's service config, as long as it is not in force because it cannot be used.
    pub refused_service_config: Option<RefusedServiceConfig>,
    /// Service configs from the registry that could not be used, ever.
    pub refused_service_configs: u64,
    /// How often the picker was made anew.
    pub rebuilds: u64,
    /// How often the outlier detection ejected an endpoint.
    pub ejections: u64,
    /// Whether all endpoints are used because too few of them are healthy.
    pub panicking: bool,
    /// How often that has begun.
    pub panics: u64,
    /// How often the registry dropped so many at once that they served on.
    pub mass_losses: u64,
    /// The endpoints, in the order of their ids.
    pub endpoints: Vec<EndpointExplanation>,
    /// The instances that the registry lists and that are no endpoints, in the order of their ids.
    pub left_out: Vec<LeftOut>,
}

/// A service config that the registry has and that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RefusedServiceConfig {
    /// What is wrong with it, by its path.
    pub error: String,
    /// Where in the registry it stands, where that is known.
    pub key: Option<String>,
    /// When it was written there, by the registry's count.
    pub revision: Option<u64>,
    /// For how long it has been refused, in milliseconds.
    pub for_ms: u128,
}

/// An instance that gets no calls because it is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// The instance's id.
    pub id: String,
    /// Where in the registry it stands, where that is known.
    pub key: Option<String>,
    /// When it was written there, by the registry's count.
    pub revision: Option<u64>,
    /// Why it is no endpoint.
    pub remark: String,
}

impl Shared {
    pub(super) fn explain(&self) -> Explanation {
        let published = self.published.load();
        let recent = published.endpoints.iter().map(|e| e.recent_picks());
        let recent = Recent {
            picks: recent.sum(),
            endpoints: published.endpoints.len() as u64,
        };
        let explained = published.endpoints.iter().map(|endpoint| {
            let remark = published.remarks.get(&endpoint.serial());
            let listed = published.listed.as_ref();
            let listed = listed.and_then(|all| all.get(&endpoint.instance().id));
            let barrier = published
                .barriers
                .iter()
                .find_map(|barrier| barrier(endpoint));
            EndpointExplanation::new(endpoint, listed, remark, barrier, recent)
        });
        let configs = self.provenance.load();
        let (service_config_key, service_config_revision) = place(configs.origin.as_ref());
        Explanation {
            target: self.target.to_string(),
            state: self.state.borrow().to_string(),
            failing: failing(&published, *self.state.borrow()),
            freshness: in_words(&published.freshness),
            stale_for_ms: match &published.freshness {
                Freshness::Starting | Freshness::Live => None,
                Freshness::Stale { since, .. } => Some(since.elapsed().as_millis()),
            },
            revision: published.listed.as_ref().map(|list| list.revision().0),
            calls_in_flight: self.admission.in_flight(),
            calls_queued: self.stats.queued(),
            service_config: published.in_force.config.to_string(),
            service_config_key,
            service_config_revision,
            refused_service_config: configs.refused.as_ref().map(RefusedServiceConfig::new),
            refused_service_configs: self.stats.refused_configs(),
            rebuilds: self.stats.rebuilds(),
            ejections: self.stats.ejections(),
            panicking: published.panicking,
            panics: self.stats.panics(),
            mass_losses: self.stats.mass_losses(),
            endpoints: explained.collect(),
            left_out: match &published.listed {
                Some(listed) => left_out(listed, &published, &self.target),
                None => Vec::new(),
            },
        }
    }
}

impl RefusedServiceConfig {
    fn new(refused: &Refused) -> Self {
        let (key, revision) = place(refused.origin.as_ref());
        Self {
            error: refused.error.to_string(),
            key,
            revision,
            for_ms: refused.since.elapsed().as_millis(),
        }
    }
}

/// Key and revision.
fn place(origin: Option<&Origin>) -> (Option<String>, Option<u64>) {
    let key = origin.map(|origin| origin.key.to_string());
    (key, origin.map(|origin| origin.revision.0))
}

fn in_words(freshness: &Freshness) -> String {
    match freshness {
        Freshness::Starting => "starting".into(),
        Freshness::Live => "live".into(),
        Freshness::Stale { since, cause } => format!("stale for {:?}: {cause}", since.elapsed()),
    }
}

/// Why calls fail now, when they do. Only then is the picker asked: to ask takes somebody's turn.
fn failing(published: &Published, state: ConnectivityState) -> Option<String> {
    if !matches!(
        state,
        ConnectivityState::TransientFailure | ConnectivityState::Shutdown
    ) {
        return None;
    }
    let headers = HeaderMap::new();
    match published.picker.pick(&CallInfo::new("", &headers)) {
        Pick::Fail(status) | Pick::Drop(status) => Some(status.message.to_string()),
        Pick::Ready(_) | Pick::Connect(_) | Pick::Queue => None,
    }
}

fn left_out(listed: &Snapshot, published: &Published, target: &Target) -> Vec<LeftOut> {
    let endpoints: HashSet<_> = published
        .endpoints
        .iter()
        .map(|endpoint| endpoint.instance().id.clone())
        .collect();
    let nothing = Selector::default();
    let selector = match target {
        Target::Service { selector, .. } => selector,
        Target::Static { .. } => &nothing,
    };
    listed
        .instances()
        .filter(|instance| !endpoints.contains(&instance.id))
        .map(|instance| {
            let (key, revision) = place(instance.origin());
            LeftOut {
                id: instance.id.to_string(),
                key,
                revision,
                remark: why_left_out(instance, selector),
            }
        })
        .collect()
}

fn why_left_out(instance: &Instance, selector: &Selector) -> String {
    if !selector.selects(instance) {
        return "not selected: the target asks for another version or other labels".to_owned();
    }
    let wanted = instance.intent().filter(|intent| intent.status().is_some());
    let why = match (instance.status, wanted) {
        (Status::Serving, _) => "not taken up",
        (_, Some(intent)) => return in_force(instance, intent),
        (Status::Draining, None) => "says in the registry that it is draining",
        (Status::NotServing, None) => "says in the registry that it is not serving",
    };
    why.to_owned()
}

/// What an operator wants of an instance, where that is written unless the instance alone remembers it, and what that says
/// itself.
fn in_force(instance: &Instance, intent: &Intent) -> String {
    let origin = intent.origin();
    let place =
        origin.map(|Origin { key, revision, .. }| format!(" ({key} at revision {revision})"));
    let remembered = || " (the registry has lost it, and the instance remembers it)".to_owned();
    format!(
        "an operator wants: {intent}{}; it says itself: {}, weight {}",
        place.unwrap_or_else(remembered),
        instance.own_status(),
        instance.own_weight().get(),
    )
}
