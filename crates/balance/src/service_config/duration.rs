//! `google.protobuf.Duration` as JSON: `"1.5s"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// Longest duration that protobuf allows: about 10,000 years.
const MAX_SECONDS: u64 = 315_576_000_000;

/// Reads a duration that is zero or more.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        let problem = if text.starts_with('-') {
            "is negative"
        } else {
            "is not a duration"
        };
        D::Error::custom(format!(
            "{text:?} {problem}; write seconds followed by s, at most nine decimals, as in \"1.5s\""
        ))
    })
}

/// The same for a field that may be absent.
pub(crate) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Reads a duration above zero.
pub(crate) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match duration(deserializer)? {
        Duration::ZERO => Err(D::Error::custom("0s is too short; anything longer will do")),
        duration => Ok(duration),
    }
}

fn parse(text: &str) -> Option<Duration> {
    let (seconds, fraction) = match text.strip_suffix('s')?.split_once('.') {
        Some((seconds, fraction)) => (seconds, fraction),
        None => (text.strip_suffix('s')?, "0"),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds = seconds.parse().ok().filter(|s| *s <= MAX_SECONDS)?;
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::{Duration, parse};

    #[test]
    fn seconds_are_read_to_the_nanosecond_and_nothing_else_is() {
        assert_eq!(parse("1.5s"), Some(Duration::from_millis(1_500)));
        assert_eq!(parse("0.000000001s"), Some(Duration::from_nanos(1)));
        for bad in [
            "",
            "s",
            "1",
            "-1s",
            "+1s",
            "1.s",
            ".5s",
            "1.0000000001s",
            "1ms",
            "999999999999s",
            "١s",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
