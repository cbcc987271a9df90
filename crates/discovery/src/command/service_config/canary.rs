//! A service config with a canary in it, and without: pure.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

const POLICIES: &str = "loadBalancingConfig";
/// The deprecated way to name a policy, which counts where there is no list.
const POLICY: &str = "loadBalancingPolicy";
const CANARY: &str = "canary";
const CHILD: &str = "childPolicy";

/// `config` with `percent` of the calls for the instances of `version`, in place of what share they had; all else is as it was.
///
/// # Errors
/// When it is no object, or has a canary that is another's.
pub(super) fn with(config: Value, version: &str, percent: u8) -> Result<Value> {
    let mut config = without(config, version)?;
    let object = object(&mut config)?;
    let named = object.remove(POLICY).and_then(|policy| {
        let policy = policy.as_str()?.to_ascii_lowercase();
        Some(json!([{ policy: {} }]))
    });
    let child = object.remove(POLICIES).or(named);
    let child = child.unwrap_or_else(|| json!([{"round_robin": {}}]));
    let canary = json!({"version": version, "sharePercent": percent, CHILD: child});
    object.insert(POLICIES.to_owned(), json!([{ CANARY: canary }]));
    Ok(config)
}

/// `config` without the canary of `version`; its instances are like any other then.
///
/// # Errors
/// When it is no object, or has a canary that is another's.
pub(super) fn without(mut config: Value, version: &str) -> Result<Value> {
    if let Some(policies) = object(&mut config)?.get_mut(POLICIES) {
        *policies = stripped(policies.take(), version)?;
    }
    Ok(config)
}

fn object(config: &mut Value) -> Result<&mut Map<String, Value>> {
    config
        .as_object_mut()
        .context("the service config is no JSON object")
}

/// The list of policies with each canary in it, however deep, replaced by what it chooses among.
fn stripped(policies: Value, version: &str) -> Result<Value> {
    let Value::Array(policies) = policies else {
        return Ok(policies);
    };
    let mut left = Vec::new();
    for mut policy in policies {
        let mut settings = policy.as_object_mut().into_iter().flatten();
        let Some((name, settings)) = settings.next() else {
            left.push(policy);
            continue;
        };
        let child = match settings.get_mut(CHILD) {
            Some(child) => stripped(child.take(), version)?,
            None => Value::Null,
        };
        if name == CANARY {
            let is_ours = settings["version"] == version
                && settings.get("labels").is_none()
                && settings.get("header").is_none();
            ensure!(
                is_ours,
                "its service config has a canary that is not the one of version {version:?}; take that away first: {settings}"
            );
            left.extend(child.as_array().into_iter().flatten().cloned());
            continue;
        }
        if !child.is_null() {
            settings[CHILD] = child;
        }
        left.push(policy);
    }
    Ok(Value::Array(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_goes_around_what_there_is_and_its_share_is_replaced() {
        let config = json!({
            "loadBalancingConfig": [{"least_request": {"choiceCount": 3}}],
            "methodConfig": [{"name": [{}], "timeout": "1s"}],
        });
        let canary = |percent| {
            json!({
                "loadBalancingConfig": [{"canary": {
                    "version": "v2",
                    "sharePercent": percent,
                    "childPolicy": [{"least_request": {"choiceCount": 3}}],
                }}],
                "methodConfig": [{"name": [{}], "timeout": "1s"}],
            })
        };
        let with_canary = with(config.clone(), "v2", 5).expect("a canary");
        assert_eq!(with_canary, canary(5));
        let more = with(with_canary, "v2", 50).expect("a larger share");
        assert_eq!(more, canary(50));
        assert_eq!(without(more, "v2").expect("no canary"), config);
        assert_eq!(without(config.clone(), "v2").expect("as it was"), config);
    }

    #[test]
    fn a_canary_is_taken_out_wherever_it_stands() {
        let nested = json!({"loadBalancingConfig": [{"outlier_detection": {
            "successRateEjection": {},
            "childPolicy": [{"canary": {"version": "v2", "sharePercent": 5, "childPolicy": [
                {"newest": {}}, {"round_robin": {}}
            ]}}],
        }}]});
        let left = json!({"loadBalancingConfig": [{"outlier_detection": {
            "successRateEjection": {},
            "childPolicy": [{"newest": {}}, {"round_robin": {}}],
        }}]});
        assert_eq!(without(nested, "v2").expect("no canary"), left);
    }

    #[test]
    fn without_a_list_of_policies_the_default_or_the_named_one_is_under_the_canary() {
        for (config, child) in [
            (json!({}), json!([{"round_robin": {}}])),
            (
                json!({"loadBalancingPolicy": "PICK_FIRST"}),
                json!([{"pick_first": {}}]),
            ),
        ] {
            let made = with(config, "v2", 1).expect("a canary");
            assert_eq!(
                made["loadBalancingConfig"][0]["canary"]["childPolicy"],
                child
            );
            assert_eq!(made.get("loadBalancingPolicy"), None);
            balance::check_service_config(&made.to_string()).expect("callers can use it");
        }
    }

    #[test]
    fn a_canary_of_somebody_elses_is_left_alone() {
        for canary in [
            json!({"version": "v3", "sharePercent": 5, "childPolicy": [{"round_robin": {}}]}),
            json!({"version": "v2", "header": "x-user", "sharePercent": 5, "childPolicy": [{"round_robin": {}}]}),
        ] {
            let config = json!({"loadBalancingConfig": [{"canary": canary}]});
            let refused = with(config, "v2", 1)
                .expect_err("it is another's")
                .to_string();
            assert!(refused.contains("take that away first"), "{refused}");
        }
        assert!(with(json!([]), "v2", 1).is_err());
    }
}
