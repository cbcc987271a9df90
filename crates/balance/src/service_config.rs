//! gRPC's service config (grpc/grpc `doc/service_config.md`, gRFC A2, A6, A21): how the calls to a service are made.
//!
//! Read here and nowhere else; to a registry it is an opaque document.

mod duration;
mod load_balancing;
mod method;

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

pub(crate) use method::{MethodConfig, RetryPolicy};

use crate::policy::{Policies, PolicyConfig};
use method::MethodTable;

/// Why a service config was refused; the message begins with the path of what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidServiceConfig {
    path: String,
    problem: String,
}

impl InvalidServiceConfig {
    fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

/// A service config that has been read and checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ServiceConfig {
    /// What the config asks for; `None` when it leaves that to the channel.
    pub(crate) policy: Option<PolicyConfig>,
    methods: MethodTable,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    #[serde(default)]
    load_balancing_config: Option<Vec<serde_json::Map<String, Value>>>,
    #[serde(default)]
    method_config: Vec<method::Wire>,
}

/// Keys of gRPC's service config that this version does not act on, and therefore does not take.
const NOT_BUILT: [&str; 3] = [
    "retryThrottling",
    "healthCheckConfig",
    "loadBalancingPolicy",
];
const NOT_BUILT_IN_METHODS: [&str; 3] = [
    "hedgingPolicy",
    "maxRequestMessageBytes",
    "maxResponseMessageBytes",
];

impl ServiceConfig {
    /// Reads the JSON text of a service config.
    pub(crate) fn parse(json: &str, policies: &Policies) -> Result<Self, InvalidServiceConfig> {
        let value: Value = serde_json::from_str(json).map_err(|error| {
            InvalidServiceConfig::new("service config", format!("not JSON: {error}"))
        })?;
        if !value.is_object() {
            return Err(InvalidServiceConfig::new(
                "service config",
                format!("{value} is not a JSON object"),
            ));
        }
        refuse_what_is_not_built(&value)?;
        let wire: Wire = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let path = if path == "." {
                "service config".into()
            } else {
                path
            };
            InvalidServiceConfig::new(path, error.into_inner().to_string())
        })?;
        Ok(Self {
            policy: wire
                .load_balancing_config
                .map(|list| load_balancing::first_known(list, policies))
                .transpose()?,
            methods: MethodTable::new(wire.method_config)?,
        })
    }

    /// What holds for a method, by the path of its requests (`/package.Service/Method`).
    pub(crate) fn method(&self, path: &str) -> Option<&Arc<MethodConfig>> {
        self.methods.get(path)
    }
}

fn refuse_what_is_not_built(config: &Value) -> Result<(), InvalidServiceConfig> {
    let refuse = |at: &Value, prefix: &str, keys: &[&str]| match keys
        .iter()
        .find(|key| at.get(**key).is_some())
    {
        Some(key) => Err(InvalidServiceConfig::new(
            format!("{prefix}{key}"),
            "is part of gRPC's service config, but not supported by this version; remove it",
        )),
        None => Ok(()),
    };
    refuse(config, "", &NOT_BUILT)?;
    let methods = config.get("methodConfig").and_then(Value::as_array);
    for (index, method) in methods.into_iter().flatten().enumerate() {
        refuse(
            method,
            &format!("methodConfig[{index}]."),
            &NOT_BUILT_IN_METHODS,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{InvalidServiceConfig, Policies, PolicyConfig, ServiceConfig};
    use crate::status::Code;

    fn parse(json: &str) -> Result<ServiceConfig, InvalidServiceConfig> {
        ServiceConfig::parse(json, &Policies::default())
    }

    #[test]
    fn the_first_known_policy_wins() {
        let json =
            r#"{"loadBalancingConfig":[{"grpclb":{}},{"round_robin":{}},{"pick_first":{}}]}"#;
        assert_eq!(
            parse(json)
                .expect(json)
                .policy
                .as_ref()
                .map(PolicyConfig::name),
            Some("round_robin")
        );
    }

    #[test]
    fn the_most_exact_name_wins_for_a_method() {
        let json = r#"{"methodConfig":[
            {"name":[{}],"timeout":"1s"},
            {"name":[{"service":"a.B"}],"timeout":"2s","waitForReady":true},
            {"name":[{"service":"a.B","method":"C"}],"timeout":"0.25s"}]}"#;
        let config = parse(json).expect(json);
        let timeout = |path| config.method(path).and_then(|method| method.timeout);
        assert_eq!(timeout("/a.B/C"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("/a.B/D"), Some(Duration::from_secs(2)));
        assert_eq!(timeout("/x.Y/Z"), Some(Duration::from_secs(1)));
        assert_eq!(
            config.method("/a.B/D").expect("named").wait_for_ready,
            Some(true)
        );
    }

    #[test]
    fn a_retry_policy_is_read_whole() {
        let json = r#"{"methodConfig":[{"name":[{"service":"a.B"}],"retryPolicy":{"maxAttempts":9,
            "initialBackoff":"0.1s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE",10]}}]}"#;
        let config = parse(json).expect(json);
        let retry = config
            .method("/a.B/C")
            .and_then(|method| method.retry.clone())
            .expect("a policy");
        assert_eq!(retry.max_attempts, 5, "A6 treats what is above 5 as 5");
        assert!(
            retry.retries(Code::Unavailable)
                && retry.retries(Code::Aborted)
                && !retry.retries(Code::Internal)
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        let cases = [
            (
                r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":1,"initialBackoff":"1s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#,
                "methodConfig[0].retryPolicy.maxAttempts: ",
            ),
            (
                r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":2,"initialBackoff":"1s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":[]}}]}"#,
                "methodConfig[0].retryPolicy.retryableStatusCodes: ",
            ),
            (
                r#"{"methodConfig":[{"name":[{}],"timeout":"-1s"}]}"#,
                "methodConfig[0].timeout: ",
            ),
            (
                r#"{"methodConfig":[{"name":[{}],"timeout":1}]}"#,
                "methodConfig[0].timeout: ",
            ),
            (
                r#"{"methodConfig":[{"name":[{"method":"x"}]}]}"#,
                "methodConfig[0].name[0]",
            ),
            (
                r#"{"methodConfig":[{"name":[{}]},{"name":[{}]}]}"#,
                "methodConfig[1].name[0]",
            ),
            (
                r#"{"methodConfig":[{"name":[{}],"hedgingPolicy":{}}]}"#,
                "methodConfig[0].hedgingPolicy: ",
            ),
            (r#"{"retryThrottling":{}}"#, "retryThrottling: "),
            (
                r#"{"loadBalancingConfig":[{"no_such":{}}]}"#,
                "loadBalancingConfig: ",
            ),
            (
                r#"{"loadBalancingConfig":[{"round_robin":{},"pick_first":{}}]}"#,
                "loadBalancingConfig[0]: ",
            ),
            (r#"{"lodBalancingConfig":[]}"#, "lodBalancingConfig"),
            ("{", "service config: not JSON"),
            ("[]", "service config: "),
        ];
        for (json, says) in cases {
            let message = parse(json).expect_err(json).to_string();
            assert!(message.contains(says), "{json}: {message}");
        }
    }
}
