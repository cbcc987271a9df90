//! What goes around a policy, where instances have weights.

use std::time::Duration;

use tokio::time::advance;

use super::{
    Arc, ConnectivityState, Endpoint, Policy,
    around::{built, in_zone, share},
    candidate, counts, endpoint, endpoints, plan, ready, unkeyed, weigh, worst,
};
/// A policy that goes by weights, with that around it.
fn weighted(wrapper: &str, settings: &str) -> Box<dyn Policy> {
    built(&format!(
        r#"{{"{wrapper}":{{{settings}"childPolicy":[{{"weighted_round_robin":{{}}}}]}}}}"#
    ))
}

#[test]
fn a_zone_carries_what_its_healthy_instances_weigh() {
    let all: Vec<_> = (0..8).map(|number| in_zone(number, number < 4)).collect();
    let is_here = |e: &Endpoint| e.zone() == all[0].zone();
    // The one that fails weighs half of the zone: what is left carries 1.4 times its half.
    let weights = [6, 3, 2, 1];
    weigh(&all, &weights);
    let state = |number| match number {
        0 => ConnectivityState::TransientFailure,
        _ => ConnectivityState::Ready,
    };
    let candidates: Vec<_> = (0..)
        .zip(&all)
        .map(|(n, e)| candidate(e, state(n)))
        .collect();
    let plan = plan(&mut *weighted("zone_preference", ""), &candidates);
    // 10,000 draws: a standard deviation of half a percent.
    let stays = share(&plan, is_here);
    assert!((stays - 0.7).abs() < 0.02, "{stays}");
    let calls = (0..12_000).map(|_| unkeyed(&plan)).filter(|e| is_here(e));
    let counts = counts(&all[1..4], calls);
    // Of 8,400 calls a sixth goes to the lightest.
    let error = worst(&all[1..4], &counts);
    assert!(error < 0.01, "{counts:?}: {error}");
}

#[test]
fn within_a_subset_calls_go_by_weight() {
    let weights: Vec<u32> = (0..30).map(|number| number % 5 + 1).collect();
    let all = endpoints(&weights);
    let mut policy = weighted("random_subsetting", r#""subsetSize":6,"#);
    let plan = ready(&mut *policy, &all);
    let counted = counts(&all, (0..6_000).map(|_| unkeyed(&plan)));
    let used: Vec<_> = (0..)
        .zip(&counted)
        .filter(|(_, count)| **count > 0)
        .collect();
    assert_eq!(used.len(), 6, "{counted:?}");
    let (members, counts): (Vec<_>, Vec<_>) = used
        .into_iter()
        .map(|(number, count): (usize, _)| (Arc::clone(&all[number]), *count))
        .unzip();
    let error = worst(&members, &counts);
    assert!(error < 0.01, "{counts:?}: {error}");
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_takes_as_much_of_its_weight_as_it_is_warm() {
    let mut policy = weighted("slow_start", r#""window":"60s","#);
    let mut all = endpoints(&[1, 2, 3, 4]);
    ready(&mut *policy, &all);
    advance(Duration::from_secs(100)).await;
    all.push(endpoint(4, 10));
    let new = all[4].serial();
    let plan = ready(&mut *policy, &all);
    for warmth in [0.1, 0.5, 1.0] {
        let found = share(&plan, |e| e.serial() == new);
        // Half the weight is the new one's. The fewest are 909 of 10,000 calls, with a standard deviation of 29.
        let due = warmth * 10.0 / (10.0 + warmth * 10.0);
        assert!((found / due - 1.0).abs() < 0.1, "{found} at {warmth}");
        advance(Duration::from_secs(30)).await;
    }
    // Who is not new goes by weight as before.
    let old = counts(&all[..4], (0..10_000).map(|_| unkeyed(&plan)));
    assert!(worst(&all[..4], &old) < 0.01, "{old:?}");
    weigh(&all, &[4, 3, 2, 1, 10]);
    let plan = ready(&mut *policy, &all);
    let all_of_them = counts(&all, (0..10_000).map(|_| unkeyed(&plan)));
    assert!(worst(&all, &all_of_them) < 0.01, "{all_of_them:?}");
}
