//! The persisted form of an intent, apart from the domain type: one JSON object, `{"v":1,"status":"draining","weight":3}`.
//!
//! What is not wanted is left out, and a field that is not known is ignored, so that a later version can be read. Without
//! either it says that nothing is wanted.

use serde::{Deserialize, Serialize};

use super::Intent;
use crate::{InvalidInstance, Status, Weight, instance::Provenance};

const VERSION: u32 = 1;

/// Why something is no intent. The text says what would be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidIntent {
    /// It wants nothing.
    #[error("an intent has a status, a weight or both, and this one has neither")]
    Empty,
    /// It is longer than any intent.
    #[error(
        "an intent of {bytes} bytes is too large: it may have {}",
        Intent::MAX_BYTES
    )]
    TooLarge {
        /// Its length.
        bytes: u64,
    },
    /// It is not JSON of the right shape.
    #[error("an intent is JSON like {{\"v\":1,\"status\":\"draining\",\"weight\":3}}: {0}")]
    Malformed(#[source] serde_json::Error),
    /// Its status is none.
    #[error("its status is {0:?}; a status is serving, not_serving or draining")]
    Status(String),
    /// Its weight is out of range.
    #[error(transparent)]
    Weight(InvalidInstance),
}

/// An intent as it is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IntentRecord {
    v: u32,
    #[serde(flatten)]
    wanted: Wanted,
}

/// What is wanted, wherever that is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
}

impl Intent {
    /// The longest that one may be as it is kept, in bytes: 4 KiB.
    pub(crate) const MAX_BYTES: usize = 4 * 1024;

    /// The intent as a store keeps it.
    pub(crate) fn to_json(&self) -> String {
        let record = IntentRecord::from(self);
        serde_json::to_string(&record).expect("a record is made of strings and numbers")
    }

    /// The intent that a store has kept as these bytes.
    pub(crate) fn from_json(text: &[u8]) -> Result<Self, InvalidIntent> {
        if text.len() > Self::MAX_BYTES {
            let bytes = text.len() as u64;
            return Err(InvalidIntent::TooLarge { bytes });
        }
        let record: IntentRecord =
            serde_json::from_slice(text).map_err(InvalidIntent::Malformed)?;
        record.try_into()
    }
}

impl From<&Intent> for IntentRecord {
    fn from(intent: &Intent) -> Self {
        Self {
            v: VERSION,
            wanted: intent.into(),
        }
    }
}

impl From<&Intent> for Wanted {
    fn from(intent: &Intent) -> Self {
        Self {
            status: intent.status.map(|status| status.to_string()),
            weight: intent.weight.map(Weight::get),
        }
    }
}

impl TryFrom<IntentRecord> for Intent {
    type Error = InvalidIntent;

    fn try_from(record: IntentRecord) -> Result<Self, InvalidIntent> {
        record.wanted.try_into()
    }
}

impl TryFrom<Wanted> for Intent {
    type Error = InvalidIntent;

    fn try_from(wanted: Wanted) -> Result<Self, InvalidIntent> {
        let status = |text: String| Status::parse(&text).ok_or(InvalidIntent::Status(text));
        let weight = |weight| Weight::new(weight).map_err(InvalidIntent::Weight);
        Ok(Self {
            status: wanted.status.map(status).transpose()?,
            weight: wanted.weight.map(weight).transpose()?,
            provenance: Provenance::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*, sample::select};

    use super::{Intent, Status, Weight};

    proptest! {
        #[test]
        fn an_intent_is_read_back_as_it_was_written(
            status in option::of(select(&Status::ALL[..])),
            weight in option::of(1..=1_000_000_u32),
        ) {
            let weight = weight.map(|weight| Weight::new(weight).expect("a weight"));
            let intent = Intent::new(status, weight).unwrap_or(Intent::nothing());
            let text = intent.to_json();
            prop_assert_eq!(Intent::from_json(text.as_bytes()).expect("an intent"), intent);
        }

        #[test]
        fn whatever_somebody_writes_is_read_or_refused(text in any::<Vec<u8>>()) {
            let _ = Intent::from_json(&text);
        }
    }

    #[test]
    fn an_intent_is_written_as_others_are_told_that_it_is() {
        let weight = Weight::new(3).expect("a weight");
        for (intent, text) in [
            (
                Intent::from(Status::NotServing),
                r#"{"v":1,"status":"not_serving"}"#,
            ),
            (
                Intent::from(Status::Draining).with_weight(weight),
                r#"{"v":1,"status":"draining","weight":3}"#,
            ),
            (Intent::from(weight), r#"{"v":1,"weight":3}"#),
            (Intent::nothing(), r#"{"v":1}"#),
        ] {
            assert_eq!(intent.to_json(), text);
        }
    }

    #[test]
    fn what_a_later_version_adds_is_ignored() {
        let text = br#"{"v":2,"weight":3,"added":{"later":[1]}}"#;
        let weight = Weight::new(3).expect("a weight");
        assert_eq!(
            Intent::from_json(text).expect("an intent"),
            Intent::from(weight)
        );
    }

    #[test]
    fn what_is_no_intent_says_why() {
        let large = format!(r#"{{"v":1,"weight":3,"why":"{}"}}"#, "x".repeat(4096));
        for (text, wanted) in [
            (r#"{"v":1,"status":"up"}"#, "\"up\""),
            (r#"{"v":1,"weight":0}"#, "from 1 to 1000000"),
            (r#"{"v":1,"weight":-1}"#, "JSON like"),
            (r#"{"weight":3}"#, "missing field `v`"),
            ("draining", "JSON like"),
            ("", "JSON like"),
            (&large, "too large"),
        ] {
            let refused = Intent::from_json(text.as_bytes()).expect_err(text);
            assert!(refused.to_string().contains(wanted), "{refused}");
        }
    }
}
