//! A service config with a canary in it, and as it was before: pure.
//!
//! What was there before stands in the service config itself, so that whoever ends the canary has it:
//!
//! ```json
//! {"loadBalancingConfig": [
//!   {"canary": {"version": "v2", "sharePercent": 5, "childPolicy": [{"round_robin": {}}]}},
//!   {"before_canary": {"text": "{}", "written": true}}
//! ]}
//! ```
//!
//! Callers go by the first policy in the list that they know, and read no further (gRFC A24).

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

const POLICIES: &str = "loadBalancingConfig";
/// The deprecated way to name a policy, which counts where there is no list.
const POLICY: &str = "loadBalancingPolicy";
const CANARY: &str = "canary";
const CHILD: &str = "childPolicy";
const BEFORE: &str = "before_canary";

/// What a canary was put around.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Before {
    /// Word for word.
    text: String,
    /// Whether the registry had it; else it is what callers went by otherwise.
    written: bool,
}

/// What there is once a canary has been taken away.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// What there was: it has no canary.
    Same,
    /// Nothing, as before.
    Nothing,
    /// This text.
    Text(String),
}

/// The service config in which the instances of `version` get `percent` of the calls; `there` is what the registry has, and `otherwise`
/// what callers go by where it has nothing.
///
/// # Errors
/// When it is no object, or has a canary that is another's.
pub(super) fn give(
    there: Option<&str>,
    otherwise: &str,
    version: &str,
    percent: u8,
) -> Result<Value> {
    let before = match there {
        None => Before {
            text: otherwise.to_owned(),
            written: false,
        },
        Some(text) => match Before::found(text, version)? {
            Some(before) => before,
            None => Before {
                text: stripped_text(text, version)?.unwrap_or_else(|| text.to_owned()),
                written: true,
            },
        },
    };
    before.with(version, percent)
}

/// What is left of the text once the canary of `version` is taken away: what was there before it, unless somebody has changed all
/// else in it since; then that is as it is now.
///
/// # Errors
/// When it is no object, or has a canary that is another's.
pub(super) fn take(there: &str, version: &str) -> Result<Left> {
    let Some(stripped) = stripped_text(there, version)? else {
        return Ok(Left::Same);
    };
    Ok(match Before::found(there, version)? {
        Some(Before { written: false, .. }) => Left::Nothing,
        Some(before) => Left::Text(before.text),
        None => Left::Text(stripped),
    })
}

impl Before {
    /// What the text says was before, if the text is that with a canary around it and nothing else.
    fn found(text: &str, version: &str) -> Result<Option<Self>> {
        let config = parsed(text)?;
        let mut policies = config[POLICIES].as_array().into_iter().flatten();
        let said = policies.find_map(|policy| policy.get(BEFORE));
        let percent = &config[POLICIES][0][CANARY]["sharePercent"];
        let percent = percent.as_u64().and_then(|percent| percent.try_into().ok());
        let (Some(said), Some(percent)) = (said, percent) else {
            return Ok(None);
        };
        let before = Self::deserialize(said).ok();
        Ok(before.filter(|before| {
            before
                .with(version, percent)
                .is_ok_and(|with| with == config)
        }))
    }

    fn with(&self, version: &str, percent: u8) -> Result<Value> {
        let mut config = with(parsed(&self.text)?, version, percent)?;
        if let Some(policies) = config[POLICIES].as_array_mut() {
            policies.push(json!({ BEFORE: self }));
        }
        Ok(config)
    }
}

fn parsed(text: &str) -> Result<Value> {
    serde_json::from_str(text).context("the service config is no JSON")
}

/// The text without the canary of `version`; `None` where there is none.
fn stripped_text(text: &str, version: &str) -> Result<Option<String>> {
    let config = parsed(text)?;
    let left = without(config.clone(), version)?;
    Ok((left != config).then(|| left.to_string()))
}

/// `config` with `percent` of the calls for the instances of `version`, in place of what share they had; all else is as it was.
///
/// # Errors
/// When it is no object, or has a canary that is another's.
fn with(config: Value, version: &str, percent: u8) -> Result<Value> {
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

/// `config` without the canary of `version`, and without what it says was before; its instances are like any other then.
///
/// # Errors
/// When it is no object, or has a canary that is another's.
fn without(mut config: Value, version: &str) -> Result<Value> {
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
        if name == BEFORE {
            continue;
        }
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

    /// What is left of `there` after a canary of 5 % and then of 50 %.
    fn after_a_canary(there: Option<&str>, otherwise: &str) -> Left {
        let given = give(there, otherwise, "v2", 5).expect("a canary");
        let more = give(Some(&given.to_string()), "{}", "v2", 50).expect("a larger share");
        let canary = &more[POLICIES][0][CANARY];
        assert_eq!(canary["sharePercent"], 50);
        balance::check_service_config(&more.to_string()).expect("callers can use it");
        take(&more.to_string(), "v2").expect("no canary")
    }

    #[test]
    fn in_the_end_all_is_word_for_word_as_before() {
        let otherwise = r#"{"methodConfig": [{"name": [{}], "timeout": "1s"}]}"#;
        assert_eq!(after_a_canary(None, otherwise), Left::Nothing);
        for there in [
            otherwise,
            "{}",
            "{\n  \"loadBalancingPolicy\": \"pick_first\" }\n",
            r#"{ "methodConfig": [], "loadBalancingConfig": [{"least_request": {}}, {"newest": {}}] }"#,
        ] {
            assert_eq!(
                after_a_canary(Some(there), otherwise),
                Left::Text(there.to_owned())
            );
            assert_eq!(take(there, "v2").expect("none"), Left::Same);
        }
    }

    #[test]
    fn what_somebody_has_changed_beside_a_canary_stays_changed() {
        for there in [None, Some(r#"{"methodConfig": [{"name": [{}]}]}"#)] {
            let mut given = give(there, "{}", "v2", 5).expect("a canary");
            given["methodConfig"] = json!([{"name": [{}], "timeout": "2s"}]);
            let left = json!({
                "loadBalancingConfig": [{"round_robin": {}}],
                "methodConfig": [{"name": [{}], "timeout": "2s"}],
            });
            let given = given.to_string();
            let text = Left::Text(left.to_string());
            assert_eq!(take(&given, "v2").expect("no canary"), text);
            let more = give(Some(&given), "{}", "v2", 50).expect("a larger share");
            let taken = take(&more.to_string(), "v2").expect("no canary");
            assert_eq!(taken, text);
        }
    }

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
