//! What goes around a policy.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, HeaderValue};
use registry::Zone;
use tokio::time::advance;

use super::{
    Arc, Candidate, ConnectivityState, Endpoint, HeaderMap, Plan, Policies, Policy, candidate,
    counts, endpoint, endpoints, keyed, pick, plan, ready, unkeyed,
};
use crate::{
    policy::{CallInfo, around},
    service_config::ServiceConfig,
};
use ConnectivityState::{Connecting, Ready, TransientFailure};

/// The zone that the caller is in.
fn here() -> Zone {
    Zone::new("here").expect("a zone")
}

/// What a service config's `loadBalancingConfig` makes for a caller that is here.
pub(super) fn built(wrapper: &str) -> Box<dyn Policy> {
    let json = format!(r#"{{"loadBalancingConfig":[{wrapper}]}}"#);
    let config = ServiceConfig::parse(&json, &Policies::default()).expect(&json);
    around::build(config.balancing.as_ref().expect("a policy"), Some(&here()))
}

/// An endpoint that is here, and one that is not.
pub(super) fn in_zone(number: usize, is_here: bool) -> Arc<Endpoint> {
    let instance = (*endpoint(number, 1).instance()).clone();
    let zone = if is_here {
        here()
    } else {
        Zone::new("there").expect("a zone")
    };
    Arc::new(Endpoint::new(instance.with_zone(zone)))
}

/// The share of 10,000 calls that goes to an endpoint of which this holds.
pub(super) fn share(plan: &Plan, holds: impl Fn(&Endpoint) -> bool) -> f64 {
    fastrand::seed(19);
    (0..10_000).filter(|_| holds(&unkeyed(plan))).count() as f64 / 10_000.0
}

#[test]
fn calls_stay_in_the_zone_until_it_is_short() {
    let all: Vec<_> = (0..20).map(|number| in_zone(number, number < 10)).collect();
    let mut policy = built(r#"{"zone_preference":{"childPolicy":[{"round_robin":{}}]}}"#);
    let mut local_with = |failing: usize| {
        let state = |number| {
            if number < failing {
                TransientFailure
            } else {
                Ready
            }
        };
        let candidates: Vec<_> = all
            .iter()
            .enumerate()
            .map(|(number, e)| candidate(e, state(number)))
            .collect();
        share(&plan(&mut *policy, &candidates), |e| {
            e.zone() == Some(here())
        })
    };
    assert_eq!(
        (local_with(0), local_with(2)),
        (1.0, 1.0),
        "eight tenths carry all, at 1.4 times their load"
    );
    // 10,000 draws: a standard deviation of half a percent.
    assert!((local_with(5) - 0.7).abs() < 0.02);
    assert!((local_with(9) - 0.14).abs() < 0.02);
    assert!(local_with(10) < 1e-9);
}

#[test]
fn a_key_stays_with_one_endpoint_while_calls_spill_over_and_keys_are_spread_over_the_whole_zone() {
    const KEYS: usize = 10_000;
    let all: Vec<_> = (0..20).map(|number| in_zone(number, number < 10)).collect();
    let mut policy = built(
        r#"{"zone_preference":{"childPolicy":[{"ring_hash":{"requestHashHeader":"x-user"}}]}}"#,
    );
    let state = |number| if number < 5 { TransientFailure } else { Ready };
    let candidates: Vec<_> = (0..)
        .zip(&all)
        .map(|(n, e)| candidate(e, state(n)))
        .collect();
    let plan = plan(&mut *policy, &candidates);
    let mut keys: BTreeMap<u64, usize> = BTreeMap::new();
    for user in 0..KEYS {
        let headers =
            HeaderMap::from_iter([(HeaderName::from_static("x-user"), HeaderValue::from(user))]);
        let call = CallInfo::new("/a.B/C", &headers);
        let serial = pick(&plan, &call).serial();
        assert!(
            (0..8).all(|_| pick(&plan, &call).serial() == serial),
            "user {user}"
        );
        *keys.entry(serial).or_default() += 1;
    }
    // Seven tenths go to the five that are left in the zone: 1,400 keys each, as evenly as a ring of 1,024 places is.
    for endpoint in &all[5..10] {
        let share = keys.get(&endpoint.serial()).copied().unwrap_or_default();
        assert!((700..2_400).contains(&share), "{share} keys of 1,400");
    }
}

#[test]
fn a_call_that_has_tried_all_of_the_zone_goes_to_another() {
    let all = [in_zone(0, true), in_zone(1, false)];
    let mut policy = built(r#"{"zone_preference":{"childPolicy":[{"round_robin":{}}]}}"#);
    let plan = ready(&mut *policy, &all);
    let headers = HeaderMap::new();
    let repeated = CallInfo {
        repeated: true,
        ..CallInfo::new("/a.B/C", &headers)
    };
    assert!((0..64).any(|_| pick(&plan, &repeated).serial() == all[1].serial()));
}

#[test]
fn the_part_that_can_take_calls_takes_them_all() {
    let all = [in_zone(0, true), in_zone(1, false)];
    let mut policy = built(r#"{"zone_preference":{"childPolicy":[{"round_robin":{}}]}}"#);
    let mut plan_of = |states: [ConnectivityState; 2]| {
        let candidates: Vec<Candidate> = all
            .iter()
            .zip(states)
            .map(|(e, state)| candidate(e, state))
            .collect();
        plan(&mut *policy, &candidates)
    };
    assert_eq!(plan_of([Connecting, Ready]).state, Ready);
    assert_eq!(
        unkeyed(&plan_of([Connecting, Ready])).serial(),
        all[1].serial()
    );
    assert_eq!(plan_of([Connecting, TransientFailure]).state, Connecting);
    assert_eq!(
        plan_of([TransientFailure, TransientFailure]).state,
        TransientFailure
    );
}

#[test]
fn a_canary_has_its_share_of_the_calls_and_whoever_asks_for_it() {
    let canary = {
        let instance = (*endpoint(9, 1).instance()).clone();
        Arc::new(Endpoint::new(instance.with_version("v2")))
    };
    let mut all = endpoints(&[1; 9]);
    all.push(Arc::clone(&canary));
    let mut policy = built(
        r#"{"canary":{"version":"v2","header":"x-canary","sharePercent":25,"childPolicy":[{"round_robin":{}}]}}"#,
    );
    let plan = ready(&mut *policy, &all);
    let is_canary = |e: &Endpoint| e.serial() == canary.serial();
    assert!((share(&plan, is_canary) - 0.25).abs() < 0.02);
    let asks = |value: &'static str| -> Vec<bool> {
        let name = HeaderName::from_static("x-canary");
        let headers: HeaderMap = [(name, HeaderValue::from_static(value))]
            .into_iter()
            .collect();
        (0..50)
            .map(|_| is_canary(pick(&plan, &CallInfo::new("/a.B/C", &headers))))
            .collect()
    };
    assert!(asks("always").iter().all(|canary| *canary) && !asks("never").contains(&true));
    let ann = asks("ann");
    assert!(
        ann.iter().all(|canary| *canary == ann[0]),
        "equal values go the same way"
    );
}

#[test]
fn a_subset_is_all_that_is_connected() {
    let all = endpoints(&[1; 30]);
    let mut policy =
        built(r#"{"random_subsetting":{"subsetSize":5,"childPolicy":[{"round_robin":{}}]}}"#);
    let idle: Vec<_> = all
        .iter()
        .map(|e| candidate(e, ConnectivityState::Idle))
        .collect();
    let first = plan(&mut *policy, &idle);
    assert_eq!((first.connect.len(), first.rest.len()), (5, 0));
    let all_ready = ready(&mut *policy, &all);
    assert_eq!(
        all_ready.rest.len(),
        25,
        "who is not in it needs no connection"
    );
    let used = counts(&all, (0..100).map(|_| unkeyed(&all_ready)))
        .into_iter()
        .filter(|count| *count > 0);
    assert_eq!(used.collect::<Vec<_>>(), [20; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_takes_as_much_of_its_share_as_it_is_warm() {
    for name in [
        "round_robin",
        "random",
        "least_request",
        "weighted_round_robin",
        "maglev",
    ] {
        let mut policy = built(&format!(
            r#"{{"slow_start":{{"window":"60s","childPolicy":[{{"{name}":{{}}}}]}}}}"#
        ));
        let mut all = endpoints(&[1; 5]);
        assert!(ready(&mut *policy, &all).again.is_some());
        advance(Duration::from_secs(100)).await;
        all.push(endpoint(5, 1));
        let new = all[5].serial();
        let plan = ready(&mut *policy, &all);
        assert!(
            plan.again
                .is_some_and(|again| again <= Duration::from_mins(1)),
            "{name}"
        );
        let mut found = Vec::new();
        for _ in 0..3 {
            found.push(share(&plan, |e| e.serial() == new));
            advance(Duration::from_secs(30)).await;
        }
        // Of a sixth. A policy that chooses again may choose the new one again; one that hashes goes on to the next.
        let due = |warmth: f64| match name {
            "maglev" => warmth / 6.0,
            _ => warmth / (5.0 + warmth),
        };
        for (found, warmth) in found.iter().zip([0.1, 0.5, 1.0]) {
            // The fewest are 167 of 10,000 calls, with a standard deviation of 13.
            let error = (found / due(warmth) - 1.0).abs();
            assert!(error < 0.24, "{name}: {found} at {warmth}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_are_all_new_are_all_alike() {
    let mut policy = built(r#"{"slow_start":{"window":"60s","childPolicy":[{"round_robin":{}}]}}"#);
    let all = endpoints(&[1; 4]);
    let plan = ready(&mut *policy, &all);
    assert_eq!(counts(&all, (0..400).map(|_| unkeyed(&plan))), [100; 4]);
}

#[tokio::test(start_paused = true)]
async fn keys_move_to_a_new_endpoint_one_by_one_and_stay() {
    // The ring of 1024 has 205 entries for each of five, and 171 for each of six: one in six has gone.
    for (name, bound) in [("ring_hash", 1.0 / 6.0), ("maglev", 0.05)] {
        let mut policy = built(&format!(
            r#"{{"slow_start":{{"window":"60s","childPolicy":[{{"{name}":{{}}}}]}}}}"#
        ));
        let mut all = endpoints(&[1; 5]);
        let before = ready(&mut *policy, &all);
        advance(Duration::from_secs(100)).await;
        all.push(endpoint(5, 1));
        let new = all[5].serial();
        let plan = ready(&mut *policy, &all);
        let mut moved = Vec::new();
        for _ in 0..5 {
            moved.push(
                (0..2000)
                    .map(|key| keyed(&plan, key).serial() == new)
                    .collect::<Vec<bool>>(),
            );
            advance(Duration::from_secs(15)).await;
        }
        let count = |keys: &Vec<bool>| keys.iter().filter(|moved| **moved).count();
        assert!(
            moved.is_sorted_by_key(count) && count(&moved[0]) * 5 < count(&moved[4]),
            "{name}"
        );
        for (earlier, later) in moved.iter().zip(&moved[1..]) {
            assert!(
                earlier.iter().zip(later).all(|(was, is)| *is || !was),
                "{name}: a key went back"
            );
        }
        // Those that stay where they were stay for good.
        let stayed = (0..2000).filter(|key| keyed(&plan, *key).serial() != new);
        let other = stayed
            .filter(|key| keyed(&plan, *key).serial() != keyed(&before, *key).serial())
            .count();
        assert!(
            other as f64 <= bound * 2000.0,
            "{name}: {other} of 2000 keys moved elsewhere"
        );
    }
}
