//! Why each endpoint is, or is not, being picked.

use std::sync::Arc;

use registry::Freshness;
use serde::Serialize;
use tokio::time::Instant;

use super::Shared;
use crate::{endpoint::Endpoint, policy::Pick, subchannel::SubchannelState};

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

/// What the driver knows of an endpoint.
pub(super) struct EndpointStatus {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) state: SubchannelState,
    pub(super) since: Instant,
    pub(super) last_resort: bool,
}

impl Shared {
    pub(super) fn explain(&self) -> Explanation {
        let published = self.published.load();
        Explanation {
            target: self.target.to_string(),
            state: self.state.borrow().to_string(),
            failing: match published.picker.pick() {
                Pick::Fail(status) => Some(status.message.to_string()),
                Pick::Ready(_) | Pick::Queue => None,
            },
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
                .map(EndpointStatus::explain)
                .collect(),
        }
    }
}

impl EndpointStatus {
    fn explain(&self) -> EndpointExplanation {
        let instance = &self.endpoint.instance;
        EndpointExplanation {
            id: instance.id.to_string(),
            addresses: instance
                .addresses()
                .iter()
                .map(ToString::to_string)
                .collect(),
            state: self.state.connectivity().to_string(),
            for_ms: self.since.elapsed().as_millis(),
            in_flight: self.endpoint.load.in_flight(),
            picks: self.endpoint.load.picks(),
            remark: self.remark(),
        }
    }

    fn remark(&self) -> Option<String> {
        match &self.state {
            SubchannelState::Idle => Some("not connected: the policy has not asked for it".into()),
            SubchannelState::Connecting => Some("connecting".into()),
            SubchannelState::TransientFailure(cause) => Some(cause.to_string()),
            SubchannelState::Ready(connection) if !connection.is_open() => {
                Some("its connection has just closed".into())
            }
            SubchannelState::Ready(_) if self.last_resort => {
                Some("gone from the registry; picked because nobody else is left".into())
            }
            SubchannelState::Ready(_) => None,
        }
    }
}
