//! What the policies' settings say, and which are refused.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Endpoints, LoadReports, Policies};

fn refusal(name: &str, settings: Value) -> (String, String) {
    let bad = Policies::default()
        .config(name, settings)
        .expect_err("bad settings");
    (bad.path, bad.problem)
}

#[test]
fn each_policy_is_known_by_its_name_and_by_grpcs_own() {
    let names = [
        "pick_first",
        "round_robin",
        "random",
        "weighted_random",
        "least_request",
        "least_request_experimental",
        "peak_ewma",
        "ring_hash",
        "ring_hash_experimental",
        "maglev",
        "weighted_round_robin",
        "weighted_round_robin_experimental",
    ];
    for name in names {
        let config = Policies::default()
            .config(name, json!({}))
            .expect(name)
            .expect(name);
        config.build();
        let (path, problem) = refusal(name, json!({"noSuchSetting": 1}));
        assert!(
            path == "noSuchSetting" && problem.contains("noSuchSetting"),
            "{name}: {path}: {problem}"
        );
    }
}

#[test]
fn what_is_out_of_range_is_named_with_the_range() {
    let cases = [
        (
            "least_request",
            json!({"choiceCount": 1}),
            "choiceCount",
            "1 is no choice; 2 or more is",
        ),
        (
            "least_request",
            json!({"choiceCount": -1}),
            "choiceCount",
            "-1",
        ),
        (
            "ring_hash",
            json!({"minRingSize": 0}),
            "minRingSize",
            "a ring has 1 to 8388608",
        ),
        (
            "ring_hash",
            json!({"maxRingSize": 8_388_609}),
            "maxRingSize",
            "8388609 entries are out of range",
        ),
        (
            "ring_hash",
            json!({"minRingSize": 100, "maxRingSize": 99}),
            "",
            "minRingSize is 100",
        ),
        (
            "ring_hash",
            json!({"requestHashHeader": "user-bin"}),
            "requestHashHeader",
            "\"user-bin\"",
        ),
        (
            "ring_hash",
            json!({"boundedLoad": 1.0}),
            "boundedLoad",
            "1 is out of range",
        ),
        (
            "maglev",
            json!({"tableSize": 65_536}),
            "tableSize",
            "65536 slots",
        ),
        (
            "maglev",
            json!({"tableSize": 5_000_077}),
            "tableSize",
            "up to 5000011",
        ),
    ];
    for (name, settings, at, says) in cases {
        let (path, problem) = refusal(name, settings.clone());
        assert!(
            path == at && problem.contains(says),
            "{name} {settings}: {path}: {problem}"
        );
    }
}

#[test]
fn a_large_number_is_taken_as_the_standards_say() {
    for (name, settings) in [
        ("least_request", json!({"choiceCount": 4_000_000})),
        (
            "ring_hash",
            json!({"minRingSize": "2048", "maxRingSize": 8_388_608, "requestHashHeader": ""}),
        ),
        ("maglev", json!({"tableSize": 251, "boundedLoad": 2})),
    ] {
        assert!(Policies::default().config(name, settings).is_ok(), "{name}");
    }
}

#[test]
fn a58s_defaults_hold_and_weights_are_not_looked_at_too_often() {
    let asked = |settings| {
        let config = Policies::default().config("weighted_round_robin", settings);
        let mut policy = config
            .expect("good settings")
            .expect("a known name")
            .build();
        let again = policy.plan(&Endpoints::new(&[])).again;
        (policy.load_reports().expect("reports are used"), again)
    };
    let (reports, again) = asked(json!({}));
    assert_eq!(again, Some(Duration::from_secs(1)));
    let defaults = LoadReports {
        out_of_band: None,
        blackout: Duration::from_secs(10),
        expiration: Duration::from_mins(3),
        error_penalty: 1.0,
    };
    assert_eq!(reports, defaults);
    let (reports, again) =
        asked(json!({"enableOobLoadReport": true, "weightUpdatePeriod": "0.01s"}));
    assert_eq!(
        (reports.out_of_band, again),
        (
            Some(Duration::from_secs(10)),
            Some(Duration::from_millis(100))
        )
    );
}
