//! What etcd's JSON gateway, and `etcdctl`, say of keys.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// A key, less its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// What is there.
    pub value: String,
    /// The revision at which it came to be: another one when it was gone in between.
    pub created: u64,
    /// The revision at which it was written last.
    pub written: u64,
}

/// What asks for all keys that begin with `prefix`, which is not empty and ends with a `/`.
pub(super) fn request(prefix: &str) -> String {
    let end = prefix.strip_suffix('/').map(|head| format!("{head}0"));
    let coded = |text: &str| BASE64_STANDARD.encode(text);
    let end = end.as_deref().map(coded);
    json!({"key": coded(prefix), "range_end": end}).to_string()
}

pub(super) fn read(answer: &Value) -> Result<BTreeMap<String, Key>> {
    let empty = Vec::new();
    let all = answer["kvs"].as_array().unwrap_or(&empty);
    let text = |value: &Value| {
        let coded = value.as_str().unwrap_or_default();
        let bytes = BASE64_STANDARD.decode(coded).context("no base64")?;
        anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    // The gateway writes numbers as texts, `etcdctl` as they are.
    let number = |value: &Value| {
        let digits = value.as_str().and_then(|digits| digits.parse().ok());
        digits.or(value.as_u64()).context("no number")
    };
    let each = all.iter().map(|kv| {
        let key = Key {
            value: text(&kv["value"])?,
            created: number(&kv["create_revision"])?,
            written: number(&kv["mod_revision"])?,
        };
        Ok((text(&kv["key"])?, key))
    });
    each.collect()
}
