//! Whatever is written, it is read or refused; what is written as it should be is read as it was meant.

mod written;

use std::sync::Arc;

use proptest::{collection, prelude::*, sample};
use serde_json::{Value, json};

use super::{InvalidServiceConfig, ServiceConfig};
use crate::policy::Policies;

fn parse(text: &str) -> Result<ServiceConfig, InvalidServiceConfig> {
    ServiceConfig::parse(text, &Policies::default())
}

/// Keys that mean something somewhere, so that what is made up gets past the outermost object.
const KEYS: [&str; 26] = [
    "loadBalancingConfig",
    "loadBalancingPolicy",
    "methodConfig",
    "retryThrottling",
    "healthCheckConfig",
    "connectionScaling",
    "name",
    "service",
    "timeout",
    "retryPolicy",
    "hedgingPolicy",
    "maxAttempts",
    "retryableStatusCodes",
    "maxRequestMessageBytes",
    "maxTokens",
    "tokenRatio",
    "childPolicy",
    "round_robin",
    "pick_first",
    "outlier_detection",
    "successRateEjection",
    "interval",
    "canary",
    "labels",
    "slow_start",
    "window",
];

fn text() -> impl Strategy<Value = String> {
    let known = ["1s", "-1s", "0s", "round_robin", "UNAVAILABLE", "7", ""];
    prop_oneof![
        sample::select(KEYS.to_vec()).prop_map(str::to_owned),
        sample::select(known.to_vec()).prop_map(str::to_owned),
        any::<String>(),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..3_u8).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            collection::vec((text(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused_with_a_path(value in anything()) {
        let text = value.to_string();
        if let Err(error) = parse(&text) {
            prop_assert!(!error.path.is_empty() && !error.problem.is_empty(), "{text}: {error:?}");
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn wrappers_are_read_as_they_were_meant_in_whatever_order(
        (meant, wrappers) in written::balancing()
    ) {
        let leaf = json!([{"round_robin": {}}]);
        let list = wrappers.into_iter().fold(leaf, |child, (name, mut settings)| {
            settings["childPolicy"] = child;
            json!([{name: settings}])
        });
        let text = json!({"loadBalancingConfig": list}).to_string();
        let config = parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(config.balancing, Some(meant));
    }

    #[test]
    fn a_method_config_is_read_as_it_was_meant((meant, mut written) in written::method()) {
        written["name"] = json!([{"service": "a.B", "method": "C"}]);
        let text = json!({"methodConfig": [written]}).to_string();
        let config = parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(config.method("/a.B/C"), Some(&Arc::new(meant)));
        prop_assert_eq!(config.method("/a.B/D"), None);
        prop_assert_eq!(parse(&text), Ok(config));
    }
}
