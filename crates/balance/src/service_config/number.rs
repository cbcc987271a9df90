//! Numbers as protobuf's JSON writes them, and those that have a range.

use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

/// Reads a `uint32`: a whole number, or its digits as a text.
pub(crate) fn uint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let value = Value::deserialize(deserializer)?;
    whole(&value).ok_or_else(|| {
        D::Error::custom(format!(
            "{value} is not a whole number from 0 to {}",
            u32::MAX
        ))
    })
}

/// The same for a field that may be absent.
pub(crate) fn optional_uint<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    uint(deserializer).map(Some)
}

/// Reads a `uint32` of at least 1.
pub(crate) fn positive_uint<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<NonZeroU32, D::Error> {
    let number = NonZeroU32::new(uint(deserializer)?);
    number.ok_or_else(|| D::Error::custom("0 is too few; 1 is the least"))
}

/// The same for a field that may be absent.
pub(super) fn optional_positive_uint<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<NonZeroU32>, D::Error> {
    positive_uint(deserializer).map(Some)
}

fn whole(value: &Value) -> Option<u32> {
    let digits = match value {
        // A float that is whole, as 1e3, prints as its digits.
        Value::Number(number) => number
            .as_u64()
            .map(|number| number.to_string())
            .or_else(|| number.as_f64().map(|number| number.to_string()))?,
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// Reads a number above 0.
pub(crate) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if number.is_finite() && number > 0.0 {
        Ok(number)
    } else {
        Err(D::Error::custom(format!(
            "{number} is not a number above 0"
        )))
    }
}

/// A whole number of hundredths, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Percent(u8);

impl Percent {
    /// `None` above 100.
    pub(crate) const fn new(percent: u8) -> Option<Self> {
        if percent <= 100 {
            Some(Self(percent))
        } else {
            None
        }
    }
}

/// The number as it is written, 0 to 100.
impl From<Percent> for u32 {
    fn from(percent: Percent) -> Self {
        percent.0.into()
    }
}

/// The share that it is of a whole, 0 to 1.
impl From<Percent> for f64 {
    fn from(percent: Percent) -> Self {
        Self::from(percent.0) / 100.0
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = uint(deserializer)?;
        u8::try_from(percent)
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| D::Error::custom(format!("{percent} is above 100 percent")))
    }
}

/// Reads a percent above 0.
pub(crate) fn positive_percent<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Percent, D::Error> {
    match Percent::deserialize(deserializer)? {
        Percent(0) => Err(D::Error::custom("0 is too little; 1 is the least")),
        percent => Ok(percent),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Percent, whole};

    #[test]
    fn a_whole_number_is_read_from_a_number_and_from_its_digits() {
        for (value, number) in [
            (json!(7), 7),
            (json!("7"), 7),
            (json!(1e3), 1000),
            (json!(4_294_967_295_u64), u32::MAX),
        ] {
            assert_eq!(whole(&value), Some(number), "{value}");
        }
        for value in [
            json!(-1),
            json!(1.5),
            json!(4_294_967_296_u64),
            json!(1e300),
            json!("+7"),
            json!("7.0"),
            json!(""),
            json!(true),
            json!([7]),
        ] {
            assert_eq!(whole(&value), None, "{value}");
        }
    }

    #[test]
    fn a_percent_ends_at_100() {
        let read = |value| serde_json::from_value::<Percent>(value);
        assert_eq!(read(json!(100)).ok(), Percent::new(100));
        assert_eq!(read(json!("0")).ok(), Percent::new(0));
        assert!(read(json!(101)).is_err() && read(json!(300)).is_err() && read(json!(-1)).is_err());
        let half = Percent::new(50).expect("50 percent");
        assert_eq!((u32::from(half), f64::from(half)), (50, 0.5));
    }
}
