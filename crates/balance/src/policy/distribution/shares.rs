//! Policies that look at nothing but weights.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, advance};

use super::{Arc, Endpoint, counts, endpoints, policy, ready, unkeyed, weigh, worst};
use crate::orca::LoadReport;

const CALLS: usize = 100_000;

const EVEN: [u32; 10] = [1; 10];
const RISING: [u32; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
/// The same with another weight for who comes and goes, and for one who stays.
const SWAPPED: [u32; 10] = [10, 2, 3, 4, 5, 6, 7, 8, 9, 1];

/// The worst error of the shares, while every now and then the first endpoint goes or comes back, and the next of these weightings
/// is in force: of each that is there, over so many calls of each such situation.
fn worst_while_flapping(name: &str, weightings: &[[u32; 10]]) -> f64 {
    const STRETCHES: usize = 100;
    fastrand::seed(11);
    let mut policy = policy(name, json!({}));
    let all = endpoints(&weightings[0]);
    let arrange = |situation: usize| {
        weigh(&all, &weightings[situation / 2]);
        &all[situation % 2..]
    };
    let mut picks = vec![Vec::new(); 2 * weightings.len()];
    for turn in 0..STRETCHES * picks.len() {
        let situation = turn % picks.len();
        let plan = ready(&mut *policy, arrange(situation));
        picks[situation].extend((0..CALLS / STRETCHES).map(|_| unkeyed(&plan)));
    }
    let errors = picks.into_iter().enumerate().map(|(situation, picks)| {
        let there = arrange(situation);
        let counts = counts(there, picks.into_iter());
        let calls: u32 = counts.iter().sum();
        assert_eq!(calls as usize, CALLS, "{name}: who has gone has calls");
        worst(there, &counts)
    });
    errors.fold(0.0, f64::max)
}

/// The worst error over so many calls.
fn worst_at_rest(name: &str, weights: &[u32]) -> f64 {
    fastrand::seed(7);
    let all = endpoints(weights);
    let plan = ready(&mut *policy(name, json!({})), &all);
    worst(&all, &counts(&all, (0..CALLS).map(|_| unkeyed(&plan))))
}

#[test]
fn a_turn_is_a_turn() {
    assert!(worst_at_rest("round_robin", &EVEN) < 1e-4);
    // Stretches of 1,000 calls, each cut at both ends: within 2 of the 100 to each of ten.
    assert!(worst_while_flapping("round_robin", &[EVEN]) < 0.02);
}

#[test]
fn chance_is_fair() {
    // 10,000 calls each, with a standard deviation of 95: four of them.
    assert!(worst_at_rest("random", &EVEN) < 0.04);
    assert!(worst_while_flapping("random", &[EVEN]) < 0.04);
}

#[test]
fn chance_heeds_weights() {
    // The lightest has 1,818 calls, with a standard deviation of 42: four of them are 9 %.
    assert!(worst_at_rest("weighted_random", &RISING) < 0.1);
    assert!(worst_while_flapping("weighted_random", &[RISING, SWAPPED]) < 0.1);
    assert!(worst_at_rest("weighted_random", &[5; 10]) < 0.04);
}

#[test]
fn least_request_heeds_weights_where_nobody_is_loaded() {
    assert!(worst_at_rest("least_request", &RISING) < 0.1);
    assert!(worst_while_flapping("least_request", &[RISING, SWAPPED]) < 0.1);
}

#[test]
fn turns_heed_weights() {
    // Each entry errs by a turn at most: one of 1,818.
    assert!(worst_at_rest("weighted_round_robin", &RISING) < 0.001);
    // Stretches of 1,000 calls, each cut at both ends: up to two of the lightest's 18.
    assert!(worst_while_flapping("weighted_round_robin", &[RISING, SWAPPED]) < 0.12);
    assert!(worst_at_rest("weighted_round_robin", &[1, 1000]) < 0.03);
}

/// A server that reports so many calls a second at full load.
fn report(endpoint: &Arc<Endpoint>, rps: f64) {
    let report = LoadReport {
        application_utilization: 1.0,
        rps_fractional: rps,
        ..LoadReport::default()
    };
    endpoint
        .record()
        .reported()
        .update(&report, 1.0, Instant::now());
}

#[tokio::test(start_paused = true)]
async fn load_reports_go_before_the_registry_from_the_blackout_to_the_expiration() {
    let all = endpoints(&[1, 1, 2]);
    let mut policy = policy(
        "weighted_round_robin",
        json!({"blackoutPeriod": "5s", "weightExpirationPeriod": "60s"}),
    );
    let mut shares = || {
        let plan = ready(&mut *policy, &all);
        assert_eq!(
            plan.again,
            Some(Duration::from_secs(1)),
            "weights are looked at each second"
        );
        counts(&all, (0..1000).map(|_| unkeyed(&plan)))
    };
    let near = |found: Vec<u32>, due: [u32; 3]| {
        assert!(
            found
                .iter()
                .zip(due)
                .all(|(found, due)| found.abs_diff(due) <= 2),
            "{found:?} for {due:?}"
        );
    };
    report(&all[0], 100.0);
    report(&all[1], 300.0);
    near(shares(), [250, 250, 500]);
    advance(Duration::from_secs(5)).await;
    // The third has no reports, and twice the registry's weight of the others: twice their mean.
    near(shares(), [125, 375, 500]);
    advance(Duration::from_secs(55)).await;
    near(shares(), [250, 250, 500]);
}
