//! How one endpoint stands, and its connections.

use std::sync::Arc;

use registry::Instance;
use serde::Serialize;
use tokio::time::Instant;

use super::in_force;
use crate::{
    channel::{Ejected, Remark},
    endpoint::Endpoint,
    subchannel::{ConnectivityState, SubchannelState},
    transport::{Availability, Connection},
};

/// After so many calls for each endpoint, of late, one would expect all to have had some.
const MANY: u64 = 16;

/// What a channel has done in about the last ten seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recent {
    pub(super) picks: u64,
    pub(super) endpoints: u64,
}

/// How an endpoint stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EndpointExplanation {
    /// The instance's id.
    pub id: String,
    /// Where in the registry it stands: etcd's key, a file's path; `None` for an address that the target names.
    pub key: Option<String>,
    /// When it was written there, by the registry's count: etcd's `mod_revision`, a file's time of modification in
    /// nanoseconds since 1970.
    pub revision: Option<u64>,
    /// Its addresses, the preferred one first.
    pub addresses: Vec<String>,
    /// Where it runs.
    pub zone: Option<String>,
    /// Which version of the service it is.
    pub version: Option<String>,
    /// Its share of the calls relative to the others, as the registry says.
    pub weight: u32,
    /// What the registry says of it: `serving`, `not_serving` or `draining`.
    pub status: String,
    /// What an operator wants of it, where that is written, and what the instance says itself; `None` when it is left to
    /// itself.
    pub intent: Option<String>,
    /// Its connectivity state, in gRPC's words: `READY`.
    pub state: String,
    /// For how long it has been in that state, in milliseconds.
    pub for_ms: u128,
    /// Why its connection could not be made, or was lost, while it is in `TRANSIENT_FAILURE`.
    pub failure: Option<String>,
    /// What its health check says when that is not that it serves.
    pub unhealthy: Option<String>,
    /// Why the outlier detection keeps calls from it, while it does.
    pub ejection: Option<EjectionExplanation>,
    /// Whether the registry has dropped it, and it serves on.
    pub held: bool,
    /// Calls that it has and has not ended.
    pub in_flight: usize,
    /// Attempts that it has ever been given by this channel.
    pub picks: u64,
    /// Its share of what the channel has picked in about the last ten seconds, 0.0 to 1.0.
    pub share: f64,
    /// How long its answers take of late, in milliseconds; `None` before the first.
    pub latency_ms: Option<f64>,
    /// The same with a preference for bad news, which `peak_ewma` goes by.
    pub peak_latency_ms: Option<f64>,
    /// Its connections that take calls.
    pub connections: Vec<ConnectionExplanation>,
    /// Why it is not being picked, when it is not; why it still is, when that is not to be expected.
    pub remark: Option<String>,
}

/// How long and why calls are kept from an endpoint (gRFC A50).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EjectionExplanation {
    /// What it has done.
    pub why: String,
    /// For how long it has been ejected, in milliseconds.
    pub for_ms: u128,
    /// For how much longer it is at least, in milliseconds: it ends with the first sweep after that.
    pub left_ms: u128,
}

/// How a connection stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConnectionExplanation {
    /// The address on its other side.
    pub peer: String,
    /// `open`; `suspected` while a PING is under way after a call's deadline passed in silence; `silent` when that was not
    /// answered, until it is; `closed` when it takes no new calls.
    pub state: String,
    /// Streams in use: calls, and the channel's own.
    pub streams: usize,
    /// The most that the server takes at a time; `None` while it has set no limit.
    pub stream_limit: Option<usize>,
}

impl EndpointExplanation {
    /// `listed` is what the registry says now, which may be word for word what it said before, at another revision; `barrier`
    /// is why what goes around the policy keeps calls from it; `of` is what the whole channel has done.
    pub(super) fn new(
        endpoint: &Endpoint,
        listed: Option<&Arc<Instance>>,
        remark: Option<&Remark>,
        barrier: Option<String>,
        of: Recent,
    ) -> Self {
        let instance = endpoint.instance();
        let origin = listed.unwrap_or(&instance).origin();
        let state = endpoint.subchannel().state();
        let connections = endpoint.subchannel().connections();
        let millis = |latency: std::time::Duration| latency.as_secs_f64() * 1e3;
        Self {
            id: instance.id.to_string(),
            key: origin.map(|origin| origin.key.to_string()),
            revision: origin.map(|origin| origin.revision.0),
            addresses: instance
                .addresses()
                .iter()
                .map(ToString::to_string)
                .collect(),
            zone: instance.zone.as_ref().map(ToString::to_string),
            version: instance.version.as_deref().map(ToOwned::to_owned),
            weight: endpoint.weight(),
            status: instance.status.to_string(),
            intent: instance.intent().map(|intent| in_force(&instance, intent)),
            state: state.connectivity.to_string(),
            for_ms: state.since.elapsed().as_millis(),
            failure: state.failure.as_deref().map(ToOwned::to_owned),
            unhealthy: state.unhealthy.as_deref().map(ToOwned::to_owned),
            ejection: remark
                .and_then(|remark| remark.ejected.as_ref())
                .map(EjectionExplanation::new),
            held: remark.is_some_and(|remark| remark.held),
            in_flight: endpoint.in_flight(),
            picks: endpoint.picks(),
            share: endpoint.recent_picks() as f64 / of.picks.max(1) as f64,
            latency_ms: endpoint.latency().map(millis),
            peak_latency_ms: endpoint.peak_latency().map(millis),
            remark: in_words(&state, &connections, remark)
                .filter(|_| barrier.is_none() || state.connectivity != ConnectivityState::Idle)
                .map(ToOwned::to_owned)
                .or(barrier)
                .or_else(|| passed_over(endpoint, of)),
            connections: connections
                .iter()
                .map(|connection| ConnectionExplanation::new(connection))
                .collect(),
        }
    }
}

/// Why an endpoint is not being picked, or why it still is.
fn in_words<'a>(
    state: &'a SubchannelState,
    connections: &[Arc<Connection>],
    remark: Option<&'a Remark>,
) -> Option<&'a str> {
    match state.connectivity {
        ConnectivityState::Idle => Some("not connected: the policy has not asked for it"),
        ConnectivityState::Connecting => Some("connecting"),
        ConnectivityState::TransientFailure => {
            Some(state.failure.as_deref().unwrap_or("cannot be reached"))
        }
        ConnectivityState::Shutdown => Some("gone"),
        ConnectivityState::Ready => match (remark, best(connections)) {
            (Some(remark), _) => Some(&remark.why),
            (None, Availability::Open | Availability::Suspected) => None,
            (None, Availability::Silent) => Some("its connection does not answer"),
            (None, Availability::Closed) => Some("its connection has just closed"),
        },
    }
}

/// That others are chosen: by zone, by the canary's split, by hash, by chance.
fn passed_over(endpoint: &Endpoint, of: Recent) -> Option<String> {
    let Recent { picks, endpoints } = of;
    (picks / endpoints.max(1) >= MANY && endpoint.recent_picks() == 0)
        .then(|| format!("ready: the policy has chosen others for the last {picks} calls"))
}

fn best(connections: &[Arc<Connection>]) -> Availability {
    let states = connections
        .iter()
        .map(|connection| connection.availability());
    states
        .min_by_key(|state| *state as u8)
        .unwrap_or(Availability::Closed)
}

impl EjectionExplanation {
    fn new(ejected: &Ejected) -> Self {
        let left = ejected.until.saturating_duration_since(Instant::now());
        Self {
            why: ejected.why.to_string(),
            for_ms: ejected.since.elapsed().as_millis(),
            left_ms: left.as_millis(),
        }
    }
}

impl ConnectionExplanation {
    fn new(connection: &Connection) -> Self {
        let state = match connection.availability() {
            Availability::Open => "open",
            Availability::Suspected => "suspected",
            Availability::Silent => "silent",
            Availability::Closed => "closed",
        };
        Self {
            peer: connection.peer().to_string(),
            state: state.to_owned(),
            streams: connection.streams(),
            stream_limit: connection.stream_limit(),
        }
    }
}
