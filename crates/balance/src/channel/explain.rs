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
    /// Why it is not being picked, when it is not; why it still is, when that is not to be expected.
    pub remark: Option<String>,
}

impl Shared {
    pub(super) fn explain(&self) -> Explanation {
        let published = self.published.load();
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
            endpoints: published
                .endpoints
                .iter()
                .map(|endpoint| {
                    EndpointExplanation::new(
                        endpoint,
                        published.remarks.get(&endpoint.serial()).copied(),
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
    fn new(endpoint: &Endpoint, special: Option<&str>) -> Self {
        let instance = endpoint.instance();
        let state = endpoint.subchannel().state();
        let remark = match state.connectivity {
            ConnectivityState::Idle => Some("not connected: the policy has not asked for it"),
            ConnectivityState::Connecting => Some("connecting"),
            ConnectivityState::TransientFailure => state.failure.as_deref(),
            ConnectivityState::Ready if !endpoint.is_available() => {
                Some("its connection has just closed")
            }
            ConnectivityState::Ready => special,
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
            remark: remark.map(ToOwned::to_owned),
        }
    }
}
