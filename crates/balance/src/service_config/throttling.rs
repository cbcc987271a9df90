//! `retryThrottling`: when nothing is tried again because too much fails (gRFC A6).

use serde::{Deserialize, Deserializer, de::Error};

/// How the channel's tokens are counted, in thousandths of a token: A6 keeps three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryThrottling {
    /// What there is at first, and at most.
    #[serde(rename = "maxTokens", deserialize_with = "max_tokens")]
    pub(crate) max_millitokens: u32,
    /// What a call that succeeds gives back; one that fails takes 1000.
    #[serde(rename = "tokenRatio", deserialize_with = "token_ratio")]
    pub(crate) millitoken_ratio: u32,
}

const MOST_TOKENS: u32 = 1000;

fn max_tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        tokens @ 1..=MOST_TOKENS => Ok(tokens * 1000),
        tokens => Err(D::Error::custom(format!(
            "{tokens} is not a number from 1 to {MOST_TOKENS}"
        ))),
    }
}

fn token_ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let ratio = f64::deserialize(deserializer)?;
    match thousandths(ratio) {
        Some(0) | None => Err(D::Error::custom(format!(
            "{ratio} is too small; 0.001 is the least"
        ))),
        Some(ratio) => Ok(ratio),
    }
}

/// Cuts after three decimals as they are written: 0.57 is 570, where 0.57 × 1000 in floats is a little less.
fn thousandths(ratio: f64) -> Option<u32> {
    // More than all tokens at once is all tokens.
    let text = ratio.min(MOST_TOKENS.into()).to_string();
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let kept = decimals.get(..3).unwrap_or(decimals);
    format!("{whole}{kept:0<3}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::thousandths;

    #[test]
    fn three_decimals_are_kept_and_the_rest_is_cut() {
        for (ratio, millis) in [
            (0.1, 100),
            (0.5466, 546),
            (0.57, 570),
            (0.001, 1),
            (0.0009, 0),
            (2.0, 2_000),
            (1.5, 1_500),
            (1e300, 1_000_000),
            (1e-300, 0),
        ] {
            assert_eq!(thousandths(ratio), Some(millis), "{ratio}");
        }
        assert_eq!(thousandths(-0.1), None);
    }
}
