use std::{num::NonZeroU32, time::Duration};

use serde_json::json;

use super::{
    ServiceConfig,
    attempts::HedgingPolicy,
    load_balancing::Balancing,
    number::Percent,
    throttling::RetryThrottling,
    wrappers::{
        Canary, MassLossProtection, PanicThreshold, RandomSubsetting, SlowStart, ZonePreference,
    },
};
use crate::{
    outlier,
    policy::{Policies, PolicyConfig},
    status::Code,
};

fn parse(json: &str) -> ServiceConfig {
    ServiceConfig::parse(json, &Policies::default())
        .unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn policy(name: &str) -> PolicyConfig {
    let config = Policies::default().config(name, json!({}));
    config.ok().flatten().expect(name)
}

fn balancing(json: &str) -> Balancing {
    let config = parse(&format!(r#"{{"loadBalancingConfig":{json}}}"#));
    config.balancing.expect("a list")
}

fn percent(percent: u8) -> Percent {
    Percent::new(percent).expect("a percent")
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not zero")
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_first_known_policy_wins_on_each_level() {
    let json = r#"[{"grpclb":{}},{"panic_threshold":{"childPolicy":[{"xds_cluster_impl_experimental":{"deep":1}},
        {"round_robin":{}},{"pick_first":{}}]}},{"pick_first":{}}]"#;
    let balancing = balancing(json);
    assert_eq!(balancing.policy.name(), "round_robin");
    assert_eq!(balancing.panic_threshold, Some(PanicThreshold::default()));
}

#[test]
fn a_deprecated_policy_name_counts_when_there_is_no_list() {
    for name in ["round_robin", "ROUND_ROBIN"] {
        let config = parse(&format!(r#"{{"loadBalancingPolicy":"{name}"}}"#));
        assert_eq!(config.balancing, Some(policy("round_robin").into()));
    }
    let both = r#"{"loadBalancingPolicy":"round_robin","loadBalancingConfig":[{"pick_first":{}}]}"#;
    let pick_first = Some(policy("pick_first").into());
    assert_eq!(parse(both).balancing, pick_first);
}

#[test]
fn every_wrapper_is_read_flat() {
    let json = r#"[{"mass_loss_protection":{"lostPercent":30,"holdFor":"5s","childPolicy":[
        {"outlier_detection_experimental":{"consecutiveFailures":{"threshold":3},"childPolicy":[
        {"random_subsetting_experimental":{"subsetSize":20,"childPolicy":[
        {"zone_preference":{"minEndpoints":2,"overprovisioning":1.5,"childPolicy":[
        {"canary":{"version":"v2","labels":{"track":"canary"},"header":"X-Canary","sharePercent":5,"childPolicy":[
        {"slow_start":{"window":"30s","aggression":2,"minWeightPercent":20,"childPolicy":[
        {"panic_threshold":{"healthyPercent":40,"childPolicy":[{"round_robin":{}}]}}]}}]}}]}}]}}]}}]}}]"#;
    let expected = Balancing {
        policy: policy("round_robin"),
        outlier_detection: Some(outlier::Settings {
            consecutive_failures: Some(outlier::ConsecutiveFailures {
                threshold: at_least_one(3),
                enforcement_percentage: 100,
            }),
            ..outlier::Settings::default()
        }),
        random_subsetting: Some(RandomSubsetting {
            subset_size: at_least_one(20),
        }),
        zone_preference: Some(ZonePreference {
            min_endpoints: at_least_one(2),
            overprovisioning: 1.5,
        }),
        canary: Some(Canary {
            version: Some("v2".into()),
            labels: [("track".into(), "canary".into())].into(),
            header: Some("x-canary".parse().expect("a name")),
            share_percent: percent(5),
        }),
        slow_start: Some(SlowStart {
            window: seconds(30),
            aggression: 2.0,
            min_weight_percent: percent(20),
        }),
        panic_threshold: Some(PanicThreshold {
            healthy_percent: percent(40),
        }),
        mass_loss: Some(MassLossProtection {
            lost_percent: percent(30),
            hold_for: seconds(5),
        }),
    };
    assert_eq!(balancing(json), expected);
}

#[test]
fn outlier_detection_has_the_defaults_of_a50() {
    let json = r#"[{"outlier_detection":{"successRateEjection":{},"failurePercentageEjection":{},
        "consecutiveFailures":{},"childPolicy":[{"round_robin":{}}]}}]"#;
    let expected = outlier::Settings {
        interval: seconds(10),
        base_ejection_time: seconds(30),
        max_ejection_time: seconds(5 * 60),
        max_ejection_percent: 10,
        success_rate: Some(outlier::SuccessRate {
            stdev_factor: 1900,
            enforcement_percentage: 100,
            minimum_hosts: 5,
            request_volume: 100,
        }),
        failure_percentage: Some(outlier::FailurePercentage {
            threshold: 85,
            enforcement_percentage: 100,
            minimum_hosts: 5,
            request_volume: 50,
        }),
        consecutive_failures: Some(outlier::ConsecutiveFailures {
            threshold: at_least_one(5),
            enforcement_percentage: 100,
        }),
    };
    assert_eq!(balancing(json).outlier_detection, Some(expected));
}

#[test]
fn the_most_exact_name_wins_for_a_method() {
    let config = parse(
        r#"{"methodConfig":[{"name":[{}],"timeout":"1s"},
        {"name":[{"service":"a.B","method":""}],"timeout":"2s","waitForReady":true},
        {"name":[{"service":"a.B","method":"C"},{"service":"d.E","method":"F"}],"timeout":"0.25s"},
        {"timeout":"9s"}]}"#,
    );
    let timeout = |path| config.method(path).and_then(|method| method.timeout);
    let exact = Some(Duration::from_millis(250));
    assert_eq!([timeout("/a.B/C"), timeout("/d.E/F")], [exact; 2]);
    assert_eq!(timeout("/a.B/D"), Some(seconds(2)));
    for other in ["/x.Y/Z", "/d.E/G", "/a.B", "a.B/C", "/", "", "/a.B/C/D"] {
        assert_eq!(timeout(other), Some(seconds(1)), "{other}");
    }
    let service = config.method("/a.B/D").expect("named");
    assert_eq!(service.wait_for_ready, Some(true));
}

#[test]
fn without_a_default_other_methods_have_nothing() {
    let config = parse(r#"{"methodConfig":[{"name":[{"service":"a.B","method":"C"}]}]}"#);
    assert!(config.method("/a.B/C").is_some());
    assert_eq!(config.method("/a.B/D"), None);
    assert_eq!(ServiceConfig::default().method("/a.B/C"), None);
}

#[test]
fn a_retry_policy_is_read_whole() {
    let config = parse(
        r#"{"methodConfig":[{"name":[{"service":"a.B"}],"retryPolicy":{"maxAttempts":9,"initialBackoff":"0.1s",
        "maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["unavailable",10]}}]}"#,
    );
    let method = config.method("/a.B/C").expect("named");
    let retry = method.retry.as_ref().expect("a policy");
    assert_eq!(retry.max_attempts, 5, "A6 treats what is above 5 as 5");
    assert_eq!(retry.initial_backoff, Duration::from_millis(100));
    assert_eq!(retry.max_backoff, seconds(1));
    assert!(retry.retries(Code::Unavailable) && retry.retries(Code::Aborted));
    assert!(!retry.retries(Code::Internal) && !retry.retries(Code::Ok));
}

#[test]
fn a_hedging_policy_is_read_whole_and_needs_its_attempts_only() {
    let hedging = |json: &str| {
        let config = parse(&format!(
            r#"{{"methodConfig":[{{"name":[{{}}],"hedgingPolicy":{json}}}]}}"#
        ));
        config.method("/a.B/C").and_then(|m| m.hedging.clone())
    };
    let least = HedgingPolicy {
        max_attempts: 2,
        hedging_delay: Duration::ZERO,
        non_fatal_status_codes: [].into_iter().collect(),
    };
    assert_eq!(hedging(r#"{"maxAttempts":2}"#), Some(least));
    let whole = HedgingPolicy {
        max_attempts: 5,
        hedging_delay: Duration::from_millis(500),
        non_fatal_status_codes: [Code::Unavailable, Code::Unauthenticated]
            .into_iter()
            .collect(),
    };
    let json =
        r#"{"maxAttempts":7,"hedgingDelay":"0.5s","nonFatalStatusCodes":["UNAVAILABLE",16]}"#;
    assert_eq!(hedging(json), Some(whole));
}

#[test]
fn message_limits_are_read_from_numbers_and_texts() {
    let config = parse(
        r#"{"methodConfig":[{"name":[{}],"maxRequestMessageBytes":"1024","maxResponseMessageBytes":0}]}"#,
    );
    let method = config.method("/a.B/C").expect("named");
    assert_eq!(method.max_request_message_bytes, Some(1024));
    assert_eq!(method.max_response_message_bytes, Some(0));
}

#[test]
fn what_holds_for_the_channel_is_read() {
    let config = parse(
        r#"{"retryThrottling":{"maxTokens":10,"tokenRatio":0.5466},"healthCheckConfig":{"serviceName":""},
        "connectionScaling":{"maxConnectionsPerSubchannel":3}}"#,
    );
    let throttling = RetryThrottling {
        max_millitokens: 10_000,
        millitoken_ratio: 546,
    };
    assert_eq!(config.retry_throttling, Some(throttling));
    assert_eq!(config.health_check.as_deref(), Some(""));
    assert_eq!(config.max_connections, NonZeroU32::new(3));
    let unnamed = parse(r#"{"healthCheckConfig":{}}"#);
    assert_eq!(unnamed.health_check, None, "A17: no name, no checks");
}

#[test]
fn null_is_the_same_as_no_key() {
    let json = r#"{"loadBalancingConfig":null,"methodConfig":[{"name":[{"service":"a.B","method":null}],
        "timeout":null}],"retryThrottling":null}"#;
    assert_eq!(
        parse(json),
        parse(r#"{"methodConfig":[{"name":[{"service":"a.B"}]}]}"#)
    );
}

#[test]
fn configs_that_say_the_same_are_equal_and_keep_their_own_text() {
    let (one, other) = (
        r#"{"loadBalancingConfig":[{"round_robin":{}}],"retryThrottling":{"maxTokens":1,"tokenRatio":1}}"#,
        "{\"retryThrottling\": {\"tokenRatio\": 1.0, \"maxTokens\": 1},\n \"loadBalancingPolicy\": \"round_robin\"}",
    );
    assert_eq!(parse(one), parse(other));
    assert_ne!(
        parse(one),
        parse(r#"{"loadBalancingPolicy":"round_robin"}"#)
    );
    assert_eq!(
        [parse(one).to_string(), parse(other).to_string()],
        [one, other]
    );
}
