//! Policies that look at calls in flight and latencies.

use std::{collections::VecDeque, time::Duration};

use proptest::prelude::*;
use serde_json::json;
use tokio::time::{Instant, advance};

use super::{
    Arc, CallInfo, Code, Endpoint, HeaderMap, InFlight, Policy, endpoints, pick, policy, ready,
    unkeyed, weigh, worst,
};
use crate::outlier::Ended;

/// The calls in flight at each, when so many are open at any time and the oldest ends for each new one.
fn held(name: &str, endpoints: &[Arc<Endpoint>], open: usize) -> Vec<usize> {
    fastrand::seed(5);
    let plan = ready(&mut *policy(name, json!({})), endpoints);
    let mut calls = VecDeque::new();
    for _ in 0..20 * open {
        calls.push_back(InFlight::count(unkeyed(&plan), Instant::now()));
        if calls.len() > open {
            calls.pop_front();
        }
    }
    endpoints
        .iter()
        .map(|endpoint| endpoint.in_flight())
        .collect()
}

#[test]
fn the_least_loaded_of_two_keeps_loads_alike() {
    // Two choices: the fullest has no more than a few calls above the mean of 100 (a random choice would have 30 more).
    let held = held("least_request", &endpoints(&[1; 20]), 2000);
    assert!(
        held.iter().all(|held| (92..=108).contains(held)),
        "{held:?}"
    );
}

#[test]
fn loads_follow_weights() {
    let held = held("least_request", &endpoints(&[1, 2, 3, 4]), 1000);
    for (held, due) in held.iter().zip([100.0, 200.0, 300.0, 400.0]) {
        assert!(
            (*held as f64 - due).abs() <= 0.05 * due + 3.0,
            "{held} for {due}"
        );
    }
}

#[test]
fn who_hangs_gets_no_more_than_its_share_of_those_in_flight() {
    fastrand::seed(3);
    for name in ["least_request", "peak_ewma"] {
        let all = endpoints(&[1, 1]);
        let plan = ready(&mut *policy(name, json!({})), &all);
        let mut stuck = Vec::new();
        for _ in 0..1000 {
            let call = InFlight::count(unkeyed(&plan), Instant::now());
            if all[0].in_flight() > stuck.len() {
                stuck.push(call);
            }
        }
        assert!(stuck.len() <= 2, "{name}: {} calls hang", stuck.len());
    }
}

#[test]
fn a_call_that_avoids_the_idlest_gets_another() {
    fastrand::seed(9);
    for name in ["least_request", "peak_ewma"] {
        let all = endpoints(&[1, 1]);
        let plan = ready(&mut *policy(name, json!({})), &all);
        // The dead one has lost its calls, and would win each comparison.
        let _busy = InFlight::count(Arc::clone(&all[1]), Instant::now());
        let headers = HeaderMap::new();
        let repeated = CallInfo {
            repeated: true,
            ..CallInfo::new("/a.B/C", &headers)
        };
        let others = (0..100)
            .filter(|_| Arc::ptr_eq(pick(&plan, &repeated), &all[1]))
            .count();
        assert!((30..70).contains(&others), "{name}: {others} of 100");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn more_choices_never_pick_a_busier_one_than_all_compared(
        busy in proptest::collection::vec(0_usize..5, 2..8), seed in any::<u64>(),
    ) {
        fastrand::seed(seed);
        let all = endpoints(&vec![1; busy.len()]);
        let _calls: Vec<_> = all.iter().zip(&busy)
            .flat_map(|(endpoint, busy)| (0..*busy).map(|_| InFlight::count(Arc::clone(endpoint), Instant::now())))
            .collect();
        let plan = ready(&mut *policy("least_request", json!({"choiceCount": 2})), &all);
        // Of two that differ the busier never wins, so the busiest alone does so never.
        let most = busy.iter().max().expect("some");
        let is_alone = busy.iter().filter(|other| *other == most).count() == 1;
        let picked = unkeyed(&plan);
        prop_assert!(!is_alone || picked.in_flight() < *most);
    }
}

/// An answer that took so long.
async fn answer(endpoint: &Arc<Endpoint>, latency: Duration) {
    let call = InFlight::count(Arc::clone(endpoint), Instant::now());
    advance(latency).await;
    let ok = Ended::Answered {
        code: Code::Ok,
        with_deadline: false,
    };
    call.ended(ok, Instant::now());
}

#[tokio::test(start_paused = true)]
async fn the_faster_gets_the_calls_until_its_queue_makes_up_for_it() {
    let all = endpoints(&[1, 1]);
    answer(&all[0], Duration::from_millis(10)).await;
    answer(&all[1], Duration::from_millis(40)).await;
    let plan = ready(&mut *policy("peak_ewma", json!({})), &all);
    let calls: Vec<_> = (0..100)
        .map(|_| InFlight::count(unkeyed(&plan), Instant::now()))
        .collect();
    // Four times as fast: four fifths of the calls.
    assert!(
        (78..=82).contains(&all[0].in_flight()),
        "{}",
        all[0].in_flight()
    );
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn weights_divide_what_latencies_do_not() {
    let all = endpoints(&[3, 1]);
    for endpoint in &all {
        answer(endpoint, Duration::from_millis(10)).await;
    }
    let plan = ready(&mut *policy("peak_ewma", json!({})), &all);
    let calls: Vec<_> = (0..100)
        .map(|_| InFlight::count(unkeyed(&plan), Instant::now()))
        .collect();
    assert!(
        (73..=77).contains(&all[0].in_flight()),
        "{}",
        all[0].in_flight()
    );
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn who_was_slow_once_is_tried_again() {
    let all = endpoints(&[1, 1]);
    answer(&all[1], Duration::from_millis(100)).await;
    answer(&all[0], Duration::from_secs(1)).await;
    let plan = ready(&mut *policy("peak_ewma", json!({})), &all);
    let mut waited = 0;
    while !Arc::ptr_eq(&unkeyed(&plan), &all[0]) {
        answer(&all[1], Duration::from_millis(100)).await;
        waited += 1;
        assert!(waited < 300, "never tried again");
    }
    // It has come down from 1 s to the other's 100 ms: in ln 10 × 10 s.
    assert!((220..=240).contains(&waited), "{waited} tenths of a second");
}

#[tokio::test(start_paused = true)]
async fn a_new_one_is_tried_and_not_flooded() {
    let all = endpoints(&[1, 1, 1]);
    answer(&all[0], Duration::from_millis(10)).await;
    answer(&all[1], Duration::from_millis(10)).await;
    let plan = ready(&mut *policy("peak_ewma", json!({})), &all);
    let calls: Vec<_> = (0..90)
        .map(|_| InFlight::count(unkeyed(&plan), Instant::now()))
        .collect();
    assert!(
        (28..=32).contains(&all[2].in_flight()),
        "{}",
        all[2].in_flight()
    );
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_called_at_once_until_it_is_loaded_as_the_others_and_who_has_gone_is_not()
{
    fastrand::seed(23);
    let all = endpoints(&[1; 5]);
    for endpoint in &all {
        answer(endpoint, Duration::from_millis(10)).await;
    }
    let mut policy = policy("peak_ewma", json!({}));
    let (flapping, staying) = all.split_last().expect("five");
    for turn in 0..50 {
        let without = ready(&mut *policy, staying);
        let mut calls: Vec<_> = (0..80)
            .map(|_| InFlight::count(unkeyed(&without), Instant::now()))
            .collect();
        assert_eq!(flapping.in_flight(), 0, "turn {turn}: it has gone");

        let with = ready(&mut *policy, &all);
        let mut call = |_| calls.push(InFlight::count(unkeyed(&with), Instant::now()));
        // It is one of two that are drawn of five: 30 pairs are without it once in four million times.
        (0..30).for_each(&mut call);
        assert!(flapping.in_flight() > 0, "turn {turn}: it is back");
        (30..220).for_each(call);
        // 80 calls to four and 220 to five: 60 each.
        let each: Vec<_> = all.iter().map(|endpoint| endpoint.in_flight()).collect();
        let is_even = each.iter().all(|calls| (56..=64).contains(calls));
        assert!(is_even, "turn {turn}: {each:?}");
    }
}

/// The loads of endpoints that weigh that, after so many calls that do not end.
fn loads(policy: &mut dyn Policy, endpoints: &[Arc<Endpoint>], calls: usize) -> Vec<u32> {
    let plan = ready(policy, endpoints);
    let calls: Vec<_> = (0..calls)
        .map(|_| InFlight::count(unkeyed(&plan), Instant::now()))
        .collect();
    let loads = endpoints
        .iter()
        .map(|e| u32::try_from(e.in_flight()).expect("a few"));
    let loads = loads.collect();
    drop(calls);
    loads
}

#[tokio::test(start_paused = true)]
async fn loads_go_by_weight_while_endpoints_come_and_go_and_weigh_more_or_less() {
    fastrand::seed(29);
    let all = endpoints(&[1, 2, 3, 4, 5]);
    for endpoint in &all {
        answer(endpoint, Duration::from_millis(10)).await;
    }
    for name in ["peak_ewma", "least_request"] {
        let mut policy = policy(name, json!({}));
        for turn in 0..20 {
            let without = loads(&mut *policy, &all[..4], 1_000);
            let with = loads(&mut *policy, &all, 1_500);
            weigh(&all, &[5, 4, 3, 2, 1]);
            let turned = loads(&mut *policy, &all, 1_500);
            weigh(&all, &[1, 2, 3, 4, 5]);
            // Of the lightest's hundred calls one is a percent; two of all are drawn, not the best of them.
            let turned: Vec<_> = turned.into_iter().rev().collect();
            for (here, loads) in [(&all[..4], without), (&all, with), (&all, turned)] {
                let worst = worst(here, &loads);
                assert!(worst < 0.1, "{name}, turn {turn}: {worst}: {loads:?}");
            }
        }
    }
}
