//! Policies that send equal keys to the same endpoint.

use http::HeaderValue;
use serde_json::{Value, json};

use tokio::time::Instant;

use super::{
    Arc, CallInfo, Candidate, ConnectivityState, Endpoint, HashKey, HeaderMap, InFlight, Pick,
    candidate, counts, endpoints, keyed, pick, plan, policy, ready, unkeyed, worst,
};
use ConnectivityState::{Connecting, Idle, Ready, TransientFailure};

const HASHES: [&str; 2] = ["ring_hash", "maglev"];

fn owners(
    name: &str,
    settings: Value,
    endpoints: &[Arc<Endpoint>],
    keys: u64,
) -> Vec<Arc<Endpoint>> {
    let plan = ready(&mut *policy(name, settings), endpoints);
    (0..keys).map(|key| keyed(&plan, key)).collect()
}

#[test]
fn shares_follow_weights() {
    let all = endpoints(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let of = |name, settings| {
        worst(
            &all,
            &counts(&all, owners(name, settings, &all, 100_000).into_iter()),
        )
    };
    // A hundred entries for the lightest: a tenth of deviation, and three of them.
    let ring = of(
        "ring_hash",
        json!({"minRingSize": 5500, "maxRingSize": 8192}),
    );
    assert!(ring < 0.3, "{ring}");
    // The table errs by a slot; the keys by a standard deviation of 2.3 % for the lightest.
    let table = of("maglev", json!({}));
    assert!(table < 0.09, "{table}");
}

#[test]
fn who_fails_loses_its_keys_for_as_long_as_it_does_and_nobody_else_any() {
    for name in HASHES {
        let all = endpoints(&[1; 20]);
        let mut policy = policy(name, json!({}));
        let before = ready(&mut *policy, &all);
        let states = |failing| -> Vec<Candidate> {
            let state = |place| {
                if place == failing {
                    TransientFailure
                } else {
                    Ready
                }
            };
            all.iter()
                .enumerate()
                .map(|(place, e)| candidate(e, state(place)))
                .collect()
        };
        let without = plan(&mut *policy, &states(7));
        for key in 0..5000 {
            let (was, is) = (keyed(&before, key), keyed(&without, key));
            assert_eq!(
                was.serial() == is.serial(),
                was.serial() != all[7].serial(),
                "{name}: key {key}"
            );
        }
        let again = ready(&mut *policy, &all);
        assert!(
            (0..5000).all(|key| keyed(&before, key).serial() == keyed(&again, key).serial()),
            "{name}"
        );
    }
}

#[test]
fn a_header_is_hashed_and_the_calls_own_key_wins() {
    for name in HASHES {
        let all = endpoints(&[1; 20]);
        let plan = ready(
            &mut *policy(name, json!({"requestHashHeader": "x-user"})),
            &all,
        );
        let headers: HeaderMap = [(
            http::HeaderName::from_static("x-user"),
            HeaderValue::from_static("ann"),
        )]
        .into_iter()
        .collect();
        let call = CallInfo::new("/a.B/C", &headers);
        let by_key = |key: &str| pick(&plan, &call.with_hash_key(HashKey::of(key))).serial();
        assert!(
            (0..50).all(|_| pick(&plan, &call).serial() == by_key("ann")),
            "{name}"
        );
        assert!(
            ["bob", "cy", "dee"]
                .iter()
                .any(|other| by_key(other) != by_key("ann")),
            "{name}"
        );
    }
}

#[test]
fn calls_without_a_key_go_anywhere() {
    for name in HASHES {
        fastrand::seed(13);
        let all = endpoints(&[1; 5]);
        let plan = ready(&mut *policy(name, json!({})), &all);
        let counts = counts(&all, (0..1000).map(|_| unkeyed(&plan)));
        assert!(
            counts.iter().all(|count| *count > 100),
            "{name}: {counts:?}"
        );
    }
}

#[test]
fn a_call_that_was_there_already_goes_to_the_next() {
    for name in HASHES {
        let all = endpoints(&[1; 5]);
        let plan = ready(&mut *policy(name, json!({})), &all);
        let headers = HeaderMap::new();
        let call = CallInfo::new("/a.B/C", &headers).with_hash_key(HashKey(42));
        let first = pick(&plan, &call).serial();
        let tried = [first];
        let second = pick(
            &plan,
            &CallInfo {
                tried: &tried,
                ..call
            },
        )
        .serial();
        assert_ne!(second, first, "{name}");
        let without: Vec<_> = all
            .iter()
            .filter(|e| e.serial() != first)
            .cloned()
            .collect();
        let tried: Vec<u64> = all.iter().map(|e| e.serial()).collect();
        assert_eq!(
            pick(
                &plan,
                &CallInfo {
                    tried: &tried,
                    ..call
                }
            )
            .serial(),
            first,
            "{name}: nothing is better"
        );
        if name == "ring_hash" {
            let gone = ready(&mut *policy(name, json!({})), &without);
            assert_eq!(
                pick(&gone, &call).serial(),
                second,
                "where the key goes when the first is gone"
            );
        }
    }
}

fn serial(pick: &Pick<'_>) -> Option<u64> {
    match pick {
        Pick::Ready(endpoint) | Pick::Connect(endpoint) => Some(endpoint.serial()),
        _ => None,
    }
}

/// gRFC A61, "Ring Hash".
#[test]
fn a_ring_connects_whom_a_call_falls_on_and_passes_over_who_fails() {
    let all = endpoints(&[1; 3]);
    let headers = HeaderMap::new();
    let call = CallInfo::new("/a.B/C", &headers).with_hash_key(HashKey(42));
    let mut policy = policy("ring_hash", json!({}));
    let mut candidates: Vec<_> = all.iter().map(|e| candidate(e, Idle)).collect();
    let idle = plan(&mut *policy, &candidates);
    assert_eq!(
        (idle.state, idle.connect.len()),
        (Idle, 0),
        "nobody is connected without a call"
    );
    let Pick::Connect(first) = idle.picker.pick(&call) else {
        panic!("an idle endpoint is not connected")
    };
    let first = all
        .iter()
        .position(|e| e.serial() == first.serial())
        .expect("one of them");

    candidates[first].state = Connecting;
    let connecting = plan(&mut *policy, &candidates);
    assert_eq!(connecting.state, Connecting);
    assert!(matches!(connecting.picker.pick(&call), Pick::Queue));

    candidates[first].state = TransientFailure;
    let failed = plan(&mut *policy, &candidates);
    assert_eq!(
        (failed.state, failed.connect.len()),
        (Connecting, 1),
        "A61: one is connected unasked"
    );
    let Pick::Connect(second) = failed.picker.pick(&call) else {
        panic!("the next on the ring is not connected")
    };
    let second = all
        .iter()
        .position(|e| e.serial() == second.serial())
        .expect("one of them");
    assert_ne!(first, second);

    candidates[second].state = TransientFailure;
    assert_eq!(
        plan(&mut *policy, &candidates).state,
        TransientFailure,
        "A42: two stand for all"
    );
    candidates[3 - first - second].state = Ready;
    let last = plan(&mut *policy, &candidates);
    assert_eq!((last.state, last.connect.len()), (Ready, 0));
    assert_eq!(
        serial(&last.picker.pick(&call)),
        Some(all[3 - first - second].serial())
    );

    for candidate in &mut candidates {
        candidate.state = TransientFailure;
    }
    assert!(matches!(
        plan(&mut *policy, &candidates).picker.pick(&call),
        Pick::Fail(_)
    ));
}

/// gRFC A76: a call without a key takes what is ready, and waits only where nothing is.
#[test]
fn a_call_without_a_key_waits_for_nobody_while_one_is_ready() {
    fastrand::seed(17);
    let all = endpoints(&[1; 3]);
    let headers = HeaderMap::new();
    let call = CallInfo::new("/a.B/C", &headers);
    let mut policy = policy("ring_hash", json!({}));
    let states = [Idle, Ready, Connecting];
    let mixed: Vec<_> = all
        .iter()
        .zip(states)
        .map(|(e, state)| candidate(e, state))
        .collect();
    let one_ready = plan(&mut *policy, &mixed);
    assert!((0..100).all(|_| serial(&one_ready.picker.pick(&call)) == Some(all[1].serial())));
    let none_ready: Vec<_> = all.iter().map(|e| candidate(e, Idle)).collect();
    let idle = plan(&mut *policy, &none_ready);
    assert!((0..100).all(|_| matches!(idle.picker.pick(&call), Pick::Queue)));
}

#[test]
fn nobody_is_loaded_far_above_the_mean_where_loads_are_bounded() {
    for name in HASHES {
        let all = endpoints(&[1; 20]);
        let mut policy = policy(name, json!({"boundedLoad": 1.25}));
        let plan = ready(&mut *policy, &all);
        // All calls have one of three keys.
        let calls: Vec<_> = (0..400)
            .map(|call| InFlight::count(keyed(&plan, call % 3), Instant::now()))
            .collect();
        let most = all
            .iter()
            .map(|endpoint| endpoint.in_flight())
            .max()
            .expect("some");
        // 1.25 × 20, and what came in between two sums over all 20: an eighth of a call each.
        assert!((20..=26).contains(&most), "{name}: {most}");
        drop(calls);
    }
}
