//! What holds for several policies, and what their tests are made of.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use registry::{Address, Instance, ServiceName};

use super::{
    CallInfo, Candidate, ConnectivityState, Endpoint, Endpoints, Pick, Plan, Policies, Policy,
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

#[test]
fn pick_first_that_fails_goes_on_failing_until_somebody_is_ready() {
    let mut policy = in_order();
    let mut candidates = candidates(&[TransientFailure, Idle]);
    let both = candidates.split_off(1);
    let failing = plan(&mut *policy, &candidates);
    assert_eq!(failing.state, TransientFailure);
    candidates.extend(both);
    let comes = plan(&mut *policy, &candidates);
    assert_eq!(
        (comes.state, ports(&comes.connect)),
        (TransientFailure, vec![2])
    );
    candidates[1].state = Connecting;
    assert_eq!(plan(&mut *policy, &candidates).state, TransientFailure);
    candidates[1].state = ConnectivityState::Ready;
    assert_eq!(
        plan(&mut *policy, &candidates).state,
        ConnectivityState::Ready
    );
    candidates[1].state = Idle;
    assert_eq!(
        plan(&mut *policy, &candidates).state,
        Idle,
        "and begins anew"
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
