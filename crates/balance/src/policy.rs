//! Which endpoint a call goes to.
//!
//! A [`Policy`] sees the endpoints with their states, says which are to be connected, and builds an immutable
//! [`Picker`]; the picker chooses for one call, on the caller's own task, without a lock. Both are pure: they know
//! counters and states, no clock and no socket.

mod pick_first;
mod round_robin;

use std::sync::Arc;

use serde_json::Value;

use crate::{
    endpoint::{Endpoint, ReadyEndpoint},
    status::Status,
    subchannel::{ConnectivityState, SubchannelState},
};

/// What a picker answers for one call.
pub(crate) enum Pick<'a> {
    /// Use this endpoint.
    Ready(&'a ReadyEndpoint),
    /// Wait for the next picker.
    Queue,
    /// No endpoint can be had: fail with this, unless the call waits for ready.
    Fail(&'a Status),
}

/// An immutable choice among endpoints.
pub(crate) trait Picker: Send + Sync {
    /// Chooses for one call.
    fn pick(&self) -> Pick<'_>;

    /// How many endpoints there are to choose from: no more picks in a row are worth while.
    fn choices(&self) -> usize;
}

/// An endpoint as a policy sees it.
pub(crate) struct Candidate {
    /// Tells the endpoint from all others that the channel has ever had.
    pub(crate) serial: u64,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) state: SubchannelState,
}

impl Candidate {
    /// The endpoint with its connection, while it has one.
    fn ready(&self) -> Option<ReadyEndpoint> {
        match &self.state {
            SubchannelState::Ready(connection) => Some(ReadyEndpoint {
                endpoint: Arc::clone(&self.endpoint),
                connection: Arc::clone(connection),
            }),
            _ => None,
        }
    }
}

/// What a policy makes of the endpoints as they are now.
pub(crate) struct Plan {
    /// The channel's state.
    pub(crate) state: ConnectivityState,
    pub(crate) picker: Arc<dyn Picker>,
    /// The candidates, by place, that are idle and are to be connected.
    pub(crate) connect: Vec<usize>,
    /// The candidates, by place, whose connections are not needed any more.
    pub(crate) rest: Vec<usize>,
}

/// Chooses which endpoints to connect, and how to choose among them.
pub(crate) trait Policy: Send {
    /// Looks at the endpoints; called whenever one comes, goes or changes its state. `called` says that a call is
    /// waiting for an endpoint.
    fn plan(&mut self, candidates: &[Candidate], called: bool) -> Plan;
}

/// A policy with its settings, as a service config or the builder names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyConfig {
    /// All calls to one endpoint, until it goes (gRFC A61, A62).
    PickFirst { shuffle: bool },
    /// Each call to the next endpoint.
    RoundRobin,
}

impl PolicyConfig {
    pub(crate) const NAMES: [&str; 2] = ["pick_first", "round_robin"];

    /// The policy of that name with the settings `config`, `None` when there is none of the name, or what is wrong
    /// with the settings.
    pub(crate) fn parse(name: &str, config: Value) -> Result<Option<Self>, String> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct RoundRobin {}
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct PickFirst {
            shuffle_address_list: Option<bool>,
        }
        let read = match name {
            "round_robin" => serde_json::from_value(config).map(|RoundRobin {}| Self::RoundRobin),
            // A registry lists its instances in the same order to everybody: unshuffled, all callers would sit on one.
            "pick_first" => serde_json::from_value(config).map(|c: PickFirst| Self::PickFirst {
                shuffle: c.shuffle_address_list.unwrap_or(true),
            }),
            _ => return Ok(None),
        };
        read.map(Some).map_err(|error| error.to_string())
    }

    pub(crate) fn build(self) -> Box<dyn Policy> {
        match self {
            Self::PickFirst { shuffle } => Box::new(pick_first::PickFirst::new(shuffle)),
            Self::RoundRobin => Box::new(round_robin::RoundRobin::new()),
        }
    }
}

/// Makes calls wait for the next picker.
pub(crate) struct Queueing;

impl Picker for Queueing {
    fn pick(&self) -> Pick<'_> {
        Pick::Queue
    }

    fn choices(&self) -> usize {
        0
    }
}

/// Fails calls, all with the same status.
pub(crate) struct Failing(pub(crate) Status);

impl Picker for Failing {
    fn pick(&self) -> Pick<'_> {
        Pick::Fail(&self.0)
    }

    fn choices(&self) -> usize {
        0
    }
}

/// The picker of a channel none of whose endpoints can be reached.
fn failing(candidates: &[Candidate]) -> Arc<dyn Picker> {
    let causes: Vec<&str> = candidates
        .iter()
        .filter_map(|candidate| match &candidate.state {
            SubchannelState::TransientFailure(cause) => Some(&**cause),
            _ => None,
        })
        .collect();
    let shown = causes
        .iter()
        .take(3)
        .copied()
        .collect::<Vec<_>>()
        .join("; ");
    let more = match causes.len().saturating_sub(3) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Arc::new(Failing(Status::unavailable(format!(
        "no instance can be reached: {shown}{more}"
    ))))
}

#[cfg(test)]
mod tests {
    use registry::{Address, Instance, ServiceName};

    use super::{
        Arc, Candidate, ConnectivityState, Endpoint, Pick, Plan, PolicyConfig, SubchannelState,
    };

    /// One candidate for each state, with serials from 0.
    fn candidates(states: &[SubchannelState]) -> Vec<Candidate> {
        let candidate = |(serial, state): (u64, &SubchannelState)| {
            let service = ServiceName::new("greeter").expect("a name");
            let address = Address::new(&format!("10.0.0.1:{}", serial + 1)).expect("an address");
            let endpoint = Arc::new(Endpoint::new(Arc::new(Instance::new(service, address))));
            Candidate {
                serial,
                endpoint,
                state: state.clone(),
            }
        };
        (0..).zip(states).map(candidate).collect()
    }

    fn failed(cause: &str) -> SubchannelState {
        SubchannelState::TransientFailure(cause.into())
    }

    fn failure(plan: &Plan) -> String {
        match plan.picker.pick() {
            Pick::Fail(status) => status.message.to_string(),
            Pick::Ready(_) | Pick::Queue => panic!("the plan does not fail calls"),
        }
    }

    const IN_ORDER: PolicyConfig = PolicyConfig::PickFirst { shuffle: false };

    #[test]
    fn round_robin_connects_everybody_and_queues_meanwhile() {
        let states = [
            SubchannelState::Idle,
            failed("refused"),
            SubchannelState::Idle,
            SubchannelState::Connecting,
        ];
        let plan = PolicyConfig::RoundRobin
            .build()
            .plan(&candidates(&states), false);
        assert_eq!(
            (plan.state, plan.connect),
            (ConnectivityState::Connecting, vec![0, 2])
        );
        assert!(matches!(plan.picker.pick(), Pick::Queue));
    }

    #[test]
    fn a_policy_fails_calls_only_when_nobody_can_be_reached_and_says_why() {
        for policy in [PolicyConfig::RoundRobin, IN_ORDER] {
            let states: Vec<_> = ["a", "b", "c", "d", "e"].map(failed).into();
            let plan = policy.build().plan(&candidates(&states), false);
            assert_eq!(plan.state, ConnectivityState::TransientFailure);
            assert_eq!(
                failure(&plan),
                "no instance can be reached: a; b; c; and 2 more"
            );
        }
    }

    #[test]
    fn pick_first_tries_the_next_only_when_those_before_it_have_failed() {
        let mut policy = IN_ORDER.build();
        let plan = policy.plan(
            &candidates(&[SubchannelState::Idle, SubchannelState::Idle]),
            false,
        );
        assert_eq!(
            (plan.state, plan.connect),
            (ConnectivityState::Connecting, vec![0])
        );
        let plan = policy.plan(
            &candidates(&[SubchannelState::Connecting, SubchannelState::Idle]),
            false,
        );
        assert_eq!(
            (plan.state, plan.connect),
            (ConnectivityState::Connecting, vec![])
        );
        let plan = policy.plan(
            &candidates(&[failed("refused"), SubchannelState::Idle]),
            false,
        );
        assert_eq!(
            (plan.state, plan.connect),
            (ConnectivityState::Connecting, vec![1])
        );
    }

    #[test]
    fn a_shuffled_pick_first_does_not_always_begin_with_the_same() {
        let idle = vec![SubchannelState::Idle; 4];
        let first = |_| {
            PolicyConfig::PickFirst { shuffle: true }
                .build()
                .plan(&candidates(&idle), false)
                .connect[0]
        };
        let firsts: std::collections::BTreeSet<_> = (0..200).map(first).collect();
        assert_eq!(firsts.len(), 4);
    }
}
