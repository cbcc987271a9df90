//! Why each endpoint is, or is not, being picked.

use http::HeaderMap;
use registry::Freshness;
use serde::Serialize;

use super::{Published, Shared};
use crate::{
    endpoint::Endpoint,
    policy::{CallInfo, Pick},
    subchannel::ConnectivityState,
};

/// How a channel stands; serialized for a debug page.
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
    /// Calls that were let in and have not ended.
    pub calls_in_flight: usize,
    /// The service config in force, as it was written.
    pub service_config: String,
    /// Service configs from the registry that could not be used.
    pub refused_service_configs: u64,
    /// How often the picker was made anew.
    pub rebuilds: u64,
    /// How often the outlier detection ejected an endpoint.
    pub ejections: u64,
    /// The endpoints, in the order of their ids.
    pub endpoints: Vec<EndpointExplanation>,
}

/// How an endpoint stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EndpointExplanation {
    /// The instance's id.
    pub id: String,
    /// Its addresses, the preferred one first.
    pub addresses: Vec<String>,
    /// Its connectivity state, in gRPC's words: `READY`.
    pub state: String,
    /// For how long it has been in that state, in milliseconds.
    pub for_ms: u128,
    /// Calls that it has and has not ended.
    pub in_flight: usize,
    /// Attempts that it has ever been given by this channel.
    pub picks: u64,
    /// Its share of what the channel has picked in about the last ten seconds, 0.0 to 1.0.
    pub share: f64,
    /// How long its answers take of late, in milliseconds; `None` before the first.
    pub latency_ms: Option<f64>,
    /// Why it is not being picked, when it is not; why it still is, when that is not to be expected.
    pub remark: Option<String>,
}

impl Shared {
    pub(super) fn explain(&self) -> Explanation {
        let published = self.published.load();
        let recent = published.endpoints.iter().map(|e| e.load().recent_picks());
        let recent_picks = recent.sum();
        Explanation {
            target: self.target.to_string(),
            state: self.state.borrow().to_string(),
            failing: failing(&published),
            freshness: match &published.freshness {
                Freshness::Starting => "starting".into(),
                Freshness::Live => "live".into(),
                Freshness::Stale { since, cause } => {
                    format!("stale for {:?}: {cause}", since.elapsed())
                }
            },
            calls_in_flight: self.admission.in_flight(),
            service_config: self.in_force.load().config.to_string(),
            refused_service_configs: self.stats.refused_configs(),
            rebuilds: self.stats.rebuilds(),
            ejections: self.stats.ejections(),
            endpoints: published
                .endpoints
                .iter()
                .map(|endpoint| {
                    EndpointExplanation::new(
                        endpoint,
                        published.remarks.get(&endpoint.serial()).map(|r| &**r),
                        recent_picks,
                    )
                })
                .collect(),
        }
    }
}

/// Why calls fail now, when they do.
fn failing(published: &Published) -> Option<String> {
    let headers = HeaderMap::new();
    match published.picker.pick(&CallInfo::new("", &headers)) {
        Pick::Fail(status) | Pick::Drop(status) => Some(status.message.to_string()),
        Pick::Ready(_) | Pick::Connect(_) | Pick::Queue => None,
    }
}

impl EndpointExplanation {
    fn new(endpoint: &Endpoint, special: Option<&str>, of: u64) -> Self {
        let instance = endpoint.instance();
        let state = endpoint.subchannel().state();
        let remark = match state.connectivity {
            ConnectivityState::Idle => Some("not connected: the policy has not asked for it"),
            ConnectivityState::Connecting => Some("connecting"),
            ConnectivityState::TransientFailure => state.failure.as_deref(),
            ConnectivityState::Ready if special.is_some() => special,
            ConnectivityState::Ready if !endpoint.is_available() => {
                Some("its connection has just closed")
            }
            ConnectivityState::Ready => None,
            ConnectivityState::Shutdown => Some("gone"),
        };
        Self {
            id: instance.id.to_string(),
            addresses: instance
                .addresses()
                .iter()
                .map(ToString::to_string)
                .collect(),
            state: state.connectivity.to_string(),
            for_ms: state.since.elapsed().as_millis(),
            in_flight: endpoint.in_flight(),
            picks: endpoint.picks(),
            share: endpoint.load().recent_picks() as f64 / of.max(1) as f64,
            latency_ms: endpoint
                .latency()
                .map(|latency| latency.as_secs_f64() * 1e3),
            remark: remark.map(ToOwned::to_owned),
        }
    }
}
