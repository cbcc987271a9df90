//! Which endpoint a call goes to.
//!
//! A [`Policy`] sees the endpoints with their states, says which are to be connected, and builds an immutable
//! [`Picker`]; the picker chooses for one call, on the caller's own task, without a lock. Both are pure: they know
//! weights, counters and states, no clock and no socket.

mod alias;
pub(crate) mod around;
#[cfg(test)]
mod distribution;
pub(crate) mod ewma;
mod hashing;
mod least_request;
mod maglev;
mod peak_ewma;
mod pick_first;
mod random;
mod ring_hash;
mod round_robin;
mod table;
mod weighted;
mod weighted_round_robin;

use std::{sync::Arc, time::Duration};

use http::HeaderMap;

pub use crate::{endpoint::Endpoint, status::Status};
use crate::{
    options::{Affinity, HashKey},
    subchannel::ConnectivityState,
};
pub(crate) use table::{Policies, PolicyConfig};

/// What a picker answers for one call.
#[derive(Debug)]
pub enum Pick<'a> {
    /// Use this endpoint.
    Ready(&'a Arc<Endpoint>),
    /// Connect this endpoint, and wait for the next picker.
    Connect(&'a Arc<Endpoint>),
    /// Wait for the next picker.
    Queue,
    /// No endpoint can be had: fail with this, unless the call waits for ready.
    Fail(&'a Status),
    /// Fail with this even a call that waits for ready.
    Drop(&'a Status),
}

/// An immutable choice among endpoints; any number of calls choose at the same time.
pub trait Picker: Send + Sync {
    /// Chooses for one call, without waiting and without a lock.
    ///
    /// When the call [avoids](CallInfo::avoids) what was chosen, it picks again a few times, so that most pickers need
    /// not look; one whose choice is fixed by the call passes over those itself.
    fn pick(&self, call: &CallInfo<'_>) -> Pick<'_>;

    /// Whether it passes over by itself what the call avoids.
    fn passes_over(&self) -> bool {
        false
    }
}

/// What a picker may know of a call.
#[derive(Debug, Clone, Copy)]
pub struct CallInfo<'a> {
    pub(crate) path: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) hash_key: Option<HashKey>,
    pub(crate) affinity: Option<&'a Affinity>,
    /// The endpoints of the call's earlier attempts, by serial.
    pub(crate) tried: &'a [u64],
    /// The call has picked before, and avoids what it got.
    pub(crate) repeated: bool,
    /// Who is new, and is to get some of its share only.
    pub(crate) warming: Option<&'a around::Warming>,
}

impl<'a> CallInfo<'a> {
    /// A call of the method at `path` (`/package.Service/Method`), for tests of a policy.
    pub fn new(path: &'a str, headers: &'a HeaderMap) -> Self {
        Self {
            path,
            headers,
            hash_key: None,
            affinity: None,
            tried: &[],
            repeated: false,
            warming: None,
        }
    }

    /// The same with a hash key.
    #[must_use]
    pub fn with_hash_key(self, key: HashKey) -> Self {
        Self {
            hash_key: Some(key),
            ..self
        }
    }

    /// The method: `/package.Service/Method`.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The metadata that the call sends.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// What the caller wants to be hashed, if it says so.
    pub fn hash_key(&self) -> Option<HashKey> {
        self.hash_key
    }

    /// Whether the picker has been asked for this call before, and the call avoids what it was given: a picker that prefers
    /// an endpoint for its few calls in flight would give it again.
    pub fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// Whether the call should go elsewhere if it can: an attempt of it was at the endpoint already, or the endpoint's
    /// connection has died or is suspected to have.
    pub fn avoids(&self, endpoint: &Endpoint) -> bool {
        self.tried.contains(&endpoint.serial()) || !endpoint.is_available()
    }
}

/// An endpoint with its state, as a policy is to see it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its connectivity state; `TransientFailure` as well when it is unhealthy or ejected.
    pub state: ConnectivityState,
    /// Why it fails, when it does.
    pub failure: Option<Arc<str>>,
}

/// The endpoints that a policy balances over, in the order of their ids.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints<'a> {
    candidates: &'a [&'a Candidate],
    /// What was counted of them before, where nobody has come, gone or changed its state since.
    census: Option<&'a Census>,
}

/// Who of the endpoints is in which state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Census {
    ready: Arc<[Arc<Endpoint>]>,
    idle: Vec<Arc<Endpoint>>,
    connecting: bool,
}

impl<'a> Endpoints<'a> {
    /// These endpoints.
    pub fn new(candidates: &'a [&'a Candidate]) -> Self {
        Self {
            candidates,
            census: None,
        }
    }

    /// The same, of whom this is known.
    pub(crate) fn with_census(self, census: &'a Census) -> Self {
        Self {
            census: Some(census),
            ..self
        }
    }

    /// Counts who is in which state.
    pub(crate) fn census(&self) -> Census {
        if let Some(known) = self.census {
            return known.clone();
        }
        let mut ready = Vec::with_capacity(self.len());
        let (mut idle, mut connecting) = (Vec::new(), false);
        for candidate in self.iter() {
            match candidate.state {
                ConnectivityState::Ready => ready.push(Arc::clone(&candidate.endpoint)),
                ConnectivityState::Idle => idle.push(Arc::clone(&candidate.endpoint)),
                ConnectivityState::Connecting => connecting = true,
                ConnectivityState::TransientFailure | ConnectivityState::Shutdown => {}
            }
        }
        Census {
            ready: ready.into(),
            idle,
            connecting,
        }
    }

    /// Each endpoint with its state.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a Candidate> + use<'a> {
        self.candidates.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Keeps all endpoints connected, and chooses by `picker` among those that are ready: what most policies want.
    ///
    /// While none is ready, calls wait for one that connects, and fail when none can be.
    pub fn connect_all(
        &self,
        picker: impl FnOnce(Arc<[Arc<Endpoint>]>) -> Arc<dyn Picker>,
    ) -> Plan {
        let census = self.census();
        let plan = if !census.ready.is_empty() {
            Plan::new(ConnectivityState::Ready, picker(census.ready))
        } else if census.connecting || !census.idle.is_empty() {
            Plan::connecting()
        } else {
            Plan::failing(self.failure())
        };
        plan.connecting_to(census.idle)
    }

    /// Why none of the endpoints can be reached.
    pub fn failure(&self) -> Status {
        const SHOWN: usize = 3;
        let causes: Vec<&str> = self.iter().filter_map(|c| c.failure.as_deref()).collect();
        let shown = causes[..causes.len().min(SHOWN)].join("; ");
        let more = match causes.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Status::unavailable(format!("no instance can be reached: {shown}{more}"))
    }
}

/// What a policy makes of the endpoints as they are now.
#[derive(Clone)]
#[non_exhaustive]
pub struct Plan {
    /// The channel's state.
    pub state: ConnectivityState,
    /// What chooses from now on.
    pub picker: Arc<dyn Picker>,
    /// Those that are idle and are to be connected.
    pub connect: Vec<Arc<Endpoint>>,
    /// Those whose connections are not needed any more.
    pub rest: Vec<Arc<Endpoint>>,
    /// When to plan again though nothing has changed.
    pub again: Option<Duration>,
}

impl Plan {
    /// The channel is in `state`, and `picker` chooses.
    pub fn new(state: ConnectivityState, picker: Arc<dyn Picker>) -> Self {
        Self {
            state,
            picker,
            connect: Vec::new(),
            rest: Vec::new(),
            again: None,
        }
    }

    /// Calls wait.
    pub fn connecting() -> Self {
        Self::new(ConnectivityState::Connecting, Arc::new(Queueing))
    }

    /// Calls fail with `status`, unless they wait for ready.
    pub fn failing(status: Status) -> Self {
        Self::new(
            ConnectivityState::TransientFailure,
            Arc::new(Failing(status)),
        )
    }

    /// The same, and `endpoints` are to be connected.
    #[must_use]
    pub fn connecting_to(self, endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self {
            connect: endpoints,
            ..self
        }
    }

    /// The same, and the policy plans again after so long, though nothing has changed until then.
    #[must_use]
    pub fn again_in(self, period: Duration) -> Self {
        Self {
            again: Some(period),
            ..self
        }
    }

    /// The same, and `endpoints` need no connection any more.
    #[must_use]
    pub fn resting(self, endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self {
            rest: endpoints,
            ..self
        }
    }
}

/// What a policy wants to know of the loads that servers report (ORCA, gRFC A51), and for how long a report counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadReports {
    /// How often servers are asked to report out of band; with each response where it is `None`.
    pub out_of_band: Option<Duration>,
    /// Reports must have come for so long before they count.
    pub blackout: Duration,
    /// The last report counts for so long.
    pub expiration: Duration,
    /// How much an error a call adds to the utilization, 0 or more.
    pub error_penalty: f64,
}

/// Chooses which endpoints to connect, and how to choose among them.
pub trait Policy: Send {
    /// Looks at the endpoints; called whenever one comes, goes or changes its state. What must outlive a picker, such as
    /// whose turn it is, is kept in `self`.
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan;

    /// What the policy wants to know of the loads that servers report; by default nothing, and no server is asked.
    fn load_reports(&self) -> Option<LoadReports> {
        None
    }
}

/// Makes calls wait for the next picker.
pub(crate) struct Queueing;

impl Picker for Queueing {
    fn pick(&self, _call: &CallInfo<'_>) -> Pick<'_> {
        Pick::Queue
    }
}

/// Fails calls, all with the same status.
pub(crate) struct Failing(pub(crate) Status);

impl Picker for Failing {
    fn pick(&self, _call: &CallInfo<'_>) -> Pick<'_> {
        Pick::Fail(&self.0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use registry::{Address, Instance, ServiceName};

    use super::{
        Arc, CallInfo, Candidate, ConnectivityState, Duration, Endpoint, Endpoints, HeaderMap,
        Pick, Plan, Policies, Policy,
    };

    /// An instance of the greeter at `10.0.0.1` with that port.
    pub(crate) fn instance(port: u16) -> Instance {
        let service = ServiceName::new("greeter").expect("a name");
        let address = Address::new(&format!("10.0.0.1:{port}")).expect("an address");
        Instance::new(service, address)
    }

    pub(crate) fn candidate(endpoint: &Arc<Endpoint>, state: ConnectivityState) -> Candidate {
        let failing = state == TransientFailure;
        Candidate {
            endpoint: Arc::clone(endpoint),
            state,
            failure: failing.then(|| endpoint.instance().address().as_str().into()),
        }
    }

    /// What the policy makes of endpoints in these states.
    pub(crate) fn plan(policy: &mut dyn Policy, candidates: &[Candidate]) -> Plan {
        policy.plan(&Endpoints::new(&candidates.iter().collect::<Vec<_>>()))
    }

    /// One candidate for each state.
    fn candidates(states: &[ConnectivityState]) -> Vec<Candidate> {
        let make = |(port, state): (u16, &ConnectivityState)| {
            candidate(&Arc::new(Endpoint::new(Arc::new(instance(port)))), *state)
        };
        (1..).zip(states).map(make).collect()
    }

    fn built(name: &str, settings: serde_json::Value) -> Box<dyn Policy> {
        let config = Policies::default()
            .config(name, settings)
            .expect("good settings")
            .expect("a known name");
        config.build()
    }

    fn round_robin() -> Box<dyn Policy> {
        built("round_robin", serde_json::json!({}))
    }

    fn in_order() -> Box<dyn Policy> {
        built(
            "pick_first",
            serde_json::json!({"shuffleAddressList": false}),
        )
    }

    fn ports(endpoints: &[Arc<Endpoint>]) -> Vec<u16> {
        endpoints
            .iter()
            .filter_map(|e| e.instance().address().port())
            .collect()
    }

    fn with_pick<T>(plan: &Plan, look: impl FnOnce(Pick<'_>) -> T) -> T {
        let headers = HeaderMap::new();
        look(plan.picker.pick(&CallInfo::new("/a.B/C", &headers)))
    }

    use ConnectivityState::{Connecting, Idle, TransientFailure};

    #[test]
    fn round_robin_connects_everybody_and_queues_meanwhile() {
        let plan = plan(
            &mut *round_robin(),
            &candidates(&[Idle, TransientFailure, Idle, Connecting]),
        );
        assert_eq!((plan.state, ports(&plan.connect)), (Connecting, vec![1, 3]));
        with_pick(&plan, |pick| assert!(matches!(pick, Pick::Queue)));
    }

    #[test]
    fn a_policy_fails_calls_only_when_nobody_can_be_reached_and_says_why() {
        for mut policy in [round_robin(), in_order()] {
            let plan = plan(&mut *policy, &candidates(&[TransientFailure; 5]));
            assert_eq!(plan.state, TransientFailure);
            with_pick(&plan, |pick| {
                let Pick::Fail(status) = pick else {
                    panic!("the plan does not fail calls: {pick:?}")
                };
                assert_eq!(
                    status.message(),
                    "no instance can be reached: 10.0.0.1:1; 10.0.0.1:2; 10.0.0.1:3; and 2 more"
                );
            });
        }
    }

    #[test]
    fn pick_first_tries_the_next_only_when_those_before_it_have_failed() {
        let mut policy = in_order();
        let mut candidates = candidates(&[Idle, Idle]);
        let first = plan(&mut *policy, &candidates);
        assert_eq!((first.state, ports(&first.connect)), (Connecting, vec![1]));
        candidates[0].state = Connecting;
        let waiting = plan(&mut *policy, &candidates);
        assert_eq!(
            (waiting.state, ports(&waiting.connect)),
            (Connecting, vec![])
        );
        candidates[0].state = TransientFailure;
        let second = plan(&mut *policy, &candidates);
        assert_eq!(
            (second.state, ports(&second.connect)),
            (Connecting, vec![2])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn pick_first_does_not_wait_for_one_that_is_slow_to_connect() {
        let mut policy = in_order();
        let mut candidates = candidates(&[Idle, Idle]);
        let first = plan(&mut *policy, &candidates);
        assert_eq!(first.again, Some(Duration::from_millis(250)));
        candidates[0].state = Connecting;
        tokio::time::advance(Duration::from_millis(100)).await;
        let waiting = plan(&mut *policy, &candidates);
        assert_eq!(waiting.again, Some(Duration::from_millis(150)));
        assert_eq!(ports(&waiting.connect), Vec::<u16>::new());
        tokio::time::advance(Duration::from_millis(150)).await;
        assert_eq!(ports(&plan(&mut *policy, &candidates).connect), [2]);
        candidates[1].state = ConnectivityState::Ready;
        let ready = plan(&mut *policy, &candidates);
        assert_eq!(
            (ready.state, ports(&ready.rest)),
            (ConnectivityState::Ready, vec![1])
        );
    }

    #[test]
    fn a_shuffled_pick_first_does_not_always_begin_with_the_same() {
        let candidates = candidates(&[Idle; 4]);
        let first = |_| {
            let mut policy = built("pick_first", serde_json::json!({}));
            ports(&plan(&mut *policy, &candidates).connect)[0]
        };
        let firsts: std::collections::BTreeSet<_> = (0..200).map(first).collect();
        assert_eq!(firsts.len(), 4);
    }
}
