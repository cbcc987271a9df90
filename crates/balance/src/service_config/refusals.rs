//! What is wrong is named by its path, and nothing that is wrong is taken.

use super::ServiceConfig;
use crate::policy::Policies;

/// Each case is a line of JSON, and the next says how the message begins. `wrap` makes a config of the JSON.
fn assert_refused(cases: &str, wrap: impl Fn(&str) -> String) {
    let lines: Vec<&str> = cases
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    for case in lines.chunks(2) {
        let [written, begins] = *case else {
            panic!("a case is two lines, not {case:?}")
        };
        let json = wrap(written);
        let message = match ServiceConfig::parse(&json, &Policies::default()) {
            Ok(config) => panic!("{json} is taken as {config:?}"),
            Err(error) => error.to_string(),
        };
        assert!(
            message.starts_with(begins),
            "{json}\n says {message}\n not  {begins}"
        );
    }
}

#[test]
fn the_whole() {
    let cases = r#"
        {
            service config: not JSON: EOF while parsing
        {} {}
            service config: not JSON: trailing characters
        []
            service config: is not a JSON object
        null
            service config: is not a JSON object
        {"lodBalancingConfig":[]}
            lodBalancingConfig: unknown field `lodBalancingConfig`
        {"methodConfig":[],"methodConfig":[]}
            service config: has the key "methodConfig" twice
        {"methodConfig":{}}
            methodConfig: invalid type: map, expected a sequence
        {"healthCheckConfig":{"serviceName":1}}
            healthCheckConfig.serviceName: invalid type: integer `1`, expected a string
        {"connectionScaling":{"maxConnectionsPerSubchannel":0}}
            connectionScaling.maxConnectionsPerSubchannel: 0 is too few
    "#;
    assert_refused(cases, str::to_owned);
}

#[test]
fn nesting_without_an_end() {
    let nested = "[".repeat(100_000);
    assert_refused(
        "any\nservice config: not JSON: recursion limit exceeded",
        |_| nested.clone(),
    );
}

#[test]
fn methods() {
    let cases = r#"
        {"name":[{}],"timeout":"-1s"}
            methodConfig[1].timeout: "-1s" is negative
        {"timeout":1}
            methodConfig[1].timeout: invalid type: integer `1`, expected a string
        {"timeout":"1s","timeout":"2s"}
            methodConfig[1]: has the key "timeout" twice
        {"waitForReady":"yes"}
            methodConfig[1].waitForReady: invalid type: string "yes", expected a boolean
        {"maxRequestMessageBytes":-1}
            methodConfig[1].maxRequestMessageBytes: -1 is not a whole number from 0 to 4294967295
        {"maxResponseMessageBytes":"many"}
            methodConfig[1].maxResponseMessageBytes: "many" is not a whole number
        {"tiemout":"1s"}
            methodConfig[1].tiemout: unknown field `tiemout`
        {"name":[{}],"retryPolicy":[]}
            methodConfig[1].retryPolicy: invalid
        {"name":[{"service":"a"},{"method":"x"}]}
            methodConfig[1].name[1]: has the method "x" and no service
        {"name":[{"service":"a","metod":"x"}]}
            methodConfig[1].name[0].metod: unknown field `metod`
        {"name":[{"service":"a","method":"b"},{"service":"c","method":"d"}]}
            methodConfig[1].name[1]: c/d is named before
    "#;
    assert_refused(cases, |method| {
        format!(r#"{{"methodConfig":[{{"name":[{{"service":"c","method":"d"}}]}},{method}]}}"#)
    });
}

#[test]
fn the_default_named_twice_and_retries_with_hedges() {
    let cases = r#"
        {"methodConfig":[{"name":[{}]},{"name":[{"service":""}]}]}
            methodConfig[1].name[0]: the default is named before
        {"methodConfig":[{"hedgingPolicy":{"maxAttempts":2},"retryPolicy":{"maxAttempts":2,"initialBackoff":"1s","maxBackoff":"1s","backoffMultiplier":1,"retryableStatusCodes":[14]}}]}
            methodConfig[0]: has a retryPolicy and a hedgingPolicy
    "#;
    assert_refused(cases, str::to_owned);
}

#[test]
fn retries() {
    let cases = r#"
        "maxAttempts":0
            methodConfig[0].retryPolicy.maxAttempts: 0 is too few
        "maxAttempts":1
            methodConfig[0].retryPolicy.maxAttempts: 1 is too few
        "maxAttempts":-2
            methodConfig[0].retryPolicy.maxAttempts: invalid value: integer `-2`
        "maxAttempts":2.5
            methodConfig[0].retryPolicy.maxAttempts: invalid type: floating point `2.5`
        "maxAttempts":null
            methodConfig[0].retryPolicy: missing field `maxAttempts`
        "initialBackoff":"0s"
            methodConfig[0].retryPolicy.initialBackoff: 0s is too short
        "maxBackoff":"-0.1s"
            methodConfig[0].retryPolicy.maxBackoff: "-0.1s" is negative
        "backoffMultiplier":0
            methodConfig[0].retryPolicy.backoffMultiplier: 0 is not a number above 0
        "retryableStatusCodes":[]
            methodConfig[0].retryPolicy.retryableStatusCodes: names no code
        "retryableStatusCodes":[14,"GONE"]
            methodConfig[0].retryPolicy.retryableStatusCodes[1]: "GONE" is not a gRPC status code
        "retryableStatusCodes":[17]
            methodConfig[0].retryPolicy.retryableStatusCodes[0]: 17 is not a gRPC status code
        "perAttemptRecvTimeout":"1s"
            methodConfig[0].retryPolicy.perAttemptRecvTimeout: unknown field
    "#;
    assert_refused(cases, |changed| {
        let key = changed.split(':').next().expect("a key");
        let usual = [
            r#""maxAttempts":2"#,
            r#""initialBackoff":"1s""#,
            r#""maxBackoff":"1s""#,
            r#""backoffMultiplier":2"#,
            r#""retryableStatusCodes":["UNAVAILABLE"]"#,
        ];
        let others = usual.into_iter().filter(|usual| !usual.starts_with(key));
        let keys: Vec<_> = others.chain([changed]).collect();
        format!(
            r#"{{"methodConfig":[{{"retryPolicy":{{{}}}}}]}}"#,
            keys.join(",")
        )
    });
}

#[test]
fn hedges_and_throttling() {
    let cases = r#"
        {"methodConfig":[{"hedgingPolicy":{}}]}
            methodConfig[0].hedgingPolicy: missing field `maxAttempts`
        {"methodConfig":[{"hedgingPolicy":{"maxAttempts":1}}]}
            methodConfig[0].hedgingPolicy.maxAttempts: 1 is too few
        {"methodConfig":[{"hedgingPolicy":{"maxAttempts":2,"hedgingDelay":"-1s"}}]}
            methodConfig[0].hedgingPolicy.hedgingDelay: "-1s" is negative
        {"methodConfig":[{"hedgingPolicy":{"maxAttempts":2,"nonFatalStatusCodes":[-1]}}]}
            methodConfig[0].hedgingPolicy.nonFatalStatusCodes[0]: -1 is not a gRPC status code
        {"retryThrottling":{"maxTokens":0,"tokenRatio":1}}
            retryThrottling.maxTokens: 0 is not a number from 1 to 1000
        {"retryThrottling":{"maxTokens":1001,"tokenRatio":1}}
            retryThrottling.maxTokens: 1001 is not a number from 1 to 1000
        {"retryThrottling":{"maxTokens":1,"tokenRatio":0.0004}}
            retryThrottling.tokenRatio: 0.0004 is too small
        {"retryThrottling":{"maxTokens":1,"tokenRatio":-1}}
            retryThrottling.tokenRatio: -1 is too small
        {"retryThrottling":{"maxTokens":1}}
            retryThrottling: missing field `tokenRatio`
    "#;
    assert_refused(cases, str::to_owned);
}

#[test]
fn policies() {
    let cases = r#"
        {"loadBalancingConfig":[{"no_such":{}}]}
            loadBalancingConfig: knows none of ["no_such"]; the policies are
        {"loadBalancingConfig":[]}
            loadBalancingConfig: knows none of []
        {"loadBalancingConfig":{}}
            loadBalancingConfig: invalid type: map, expected a sequence
        {"loadBalancingConfig":["round_robin"]}
            loadBalancingConfig[0]: invalid type: string "round_robin", expected a map
        {"loadBalancingConfig":[{}]}
            loadBalancingConfig[0]: names no policy
        {"loadBalancingConfig":[{"round_robin":{},"pick_first":{}}]}
            loadBalancingConfig[0]: names pick_first and round_robin
        {"loadBalancingConfig":[{"no_such":{}},{"pick_first":{"shuffleAddressList":1}}]}
            loadBalancingConfig[1].pick_first.shuffleAddressList: invalid type: integer `1`
        {"loadBalancingConfig":[{"round_robin":{"robins":1}}]}
            loadBalancingConfig[0].round_robin.robins: unknown field `robins`
        {"loadBalancingConfig":[{"round_robin":1}]}
            loadBalancingConfig[0].round_robin: invalid type: integer `1`
        {"loadBalancingPolicy":"random_walk"}
            loadBalancingPolicy: knows none of ["random_walk"]
        {"loadBalancingPolicy":"slow_start"}
            loadBalancingPolicy: slow_start goes around a policy
        {"loadBalancingPolicy":1}
            loadBalancingPolicy: invalid type: integer `1`, expected a string
    "#;
    assert_refused(cases, str::to_owned);
}

#[test]
fn settings_of_what_goes_around_a_policy() {
    let cases = r#"
        "outlier_detection":{"interval":10}
            .outlier_detection.interval: invalid type: integer `10`, expected a string
        "outlier_detection":{"baseEjectionTime":"-3s"}
            .outlier_detection.baseEjectionTime: "-3s" is negative
        "outlier_detection":{"maxEjectionPercent":101}
            .outlier_detection.maxEjectionPercent: 101 is above 100 percent
        "outlier_detection_experimental":{"successRateEjection":{"minimumHosts":-1}}
            .outlier_detection_experimental.successRateEjection.minimumHosts: -1 is not a whole number
        "outlier_detection":{"failurePercentageEjection":{"threshold":900}}
            .outlier_detection.failurePercentageEjection.threshold: 900 is above 100 percent
        "outlier_detection":{"consecutiveFailures":{"threshold":0}}
            .outlier_detection.consecutiveFailures.threshold: 0 is too few
        "outlier_detection":{"intreval":"1s"}
            .outlier_detection.intreval: unknown field `intreval`
        "random_subsetting":{}
            .random_subsetting: missing field `subsetSize`
        "random_subsetting_experimental":{"subsetSize":0}
            .random_subsetting_experimental.subsetSize: 0 is too few
        "zone_preference":{"minEndpoints":0}
            .zone_preference.minEndpoints: 0 is too few
        "zone_preference":{"overprovisioning":0.9}
            .zone_preference.overprovisioning: 0.9 is below 1
        "slow_start":{}
            .slow_start: missing field `window`
        "slow_start":{"window":"0s"}
            .slow_start.window: 0s is too short
        "slow_start":{"window":"1s","aggression":0}
            .slow_start.aggression: 0 is not a number above 0
        "slow_start":{"window":"1s","minWeightPercent":1.5}
            .slow_start.minWeightPercent: 1.5 is not a whole number
        "slow_start":{"window":"1s","minWeightPercent":0}
            .slow_start.minWeightPercent: 0 is too little
        "panic_threshold":{"healthyPercent":101}
            .panic_threshold.healthyPercent: 101 is above 100 percent
        "mass_loss_protection":{"holdFor":"-1s"}
            .mass_loss_protection.holdFor: "-1s" is negative
        "canary":{"version":"v2"}
            .canary: missing field `sharePercent`
        "canary":{"sharePercent":5}
            .canary: chooses no instances
        "canary":{"version":"v2","sharePercent":5,"header":"no name"}
            .canary.header: "no name" cannot be the name of a header
        "canary":{"sharePercent":5,"labels":{"track":1}}
            .canary.labels.track: invalid type: integer `1`, expected a string
    "#;
    let cases = cases.replace("\n            .", "\n            loadBalancingConfig[0].");
    assert_refused(&cases, |written| {
        let settings = written.strip_suffix('}').expect("an object");
        let comma = if settings.ends_with('{') { "" } else { "," };
        let wrapper = format!(r#"{settings}{comma}"childPolicy":[{{"round_robin":{{}}}}]}}"#);
        format!(r#"{{"loadBalancingConfig":[{{{wrapper}}}]}}"#)
    });
}

#[test]
fn children_of_what_goes_around_a_policy() {
    let cases = r#"
        [{"panic_threshold":{}}]
            loadBalancingConfig[0].panic_threshold: goes around a policy
        [{"panic_threshold":1}]
            loadBalancingConfig[0].panic_threshold: goes around a policy
        [{"panic_threshold":{"childPolicy":[{"no_such":{}}]}}]
            loadBalancingConfig[0].panic_threshold.childPolicy: knows none of ["no_such"]
        [{"panic_threshold":{"childPolicy":[{"no_such":{}},7]}}]
            loadBalancingConfig[0].panic_threshold.childPolicy[1]: invalid type: integer `7`
        [{"canary":{"childPolicy":[{"outlier_detection":{"childPolicy":[{"canary":{"childPolicy":[{"round_robin":{}}]}}]}}]}}]
            loadBalancingConfig[0].canary.childPolicy[0].outlier_detection.childPolicy[0].canary: is there twice, first as loadBalancingConfig[0].canary;
        [{"outlier_detection":{"childPolicy":[{"outlier_detection_experimental":{"childPolicy":[]}}]}}]
            loadBalancingConfig[0].outlier_detection.childPolicy[0].outlier_detection_experimental: is there twice
    "#;
    assert_refused(cases, |list| format!(r#"{{"loadBalancingConfig":{list}}}"#));
}
