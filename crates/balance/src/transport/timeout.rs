//! How long a call may take, and how its servers are told (grpc/grpc `doc/PROTOCOL-HTTP2.md`).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

/// gRPC's request header that tells the server how long the caller waits.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How long the caller of a request waits by its `grpc-timeout`, for whoever serves it. `None` where it says nothing, or nothing
/// that makes sense.
///
/// ```
/// use std::time::Duration;
///
/// let mut headers = http::HeaderMap::new();
/// assert_eq!(balance::timeout_of(&headers), None);
/// headers.insert("grpc-timeout", "250m".parse()?);
/// assert_eq!(balance::timeout_of(&headers), Some(Duration::from_millis(250)));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
pub fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    headers.get(GRPC_TIMEOUT).and_then(Timeout::read)
}

/// When a call is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeout {
    began: Instant,
    until: Instant,
}

impl Timeout {
    /// A call that began at `began` and may take `total`. Longer than a clock can tell is for ever.
    pub(crate) fn after(total: Duration, began: Instant) -> Option<Self> {
        let until = began.checked_add(total)?;
        Some(Self { began, until })
    }

    /// How long the call may take.
    pub(crate) fn total(&self) -> Duration {
        self.until.duration_since(self.began)
    }

    /// When it is over.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// The header of an attempt that begins `now`, later than its call.
    pub(crate) fn left(&self, now: Instant) -> HeaderValue {
        let mut value = Self::write(self.until.saturating_duration_since(now));
        // Almost never twice the same: as "sensitive" it stays out of HPACK's table, where it would push out what does
        // recur.
        value.set_sensitive(true);
        value
    }

    /// Whether so much is what is left of another call's time, which is another for each: people give hundredths of a second.
    pub(crate) fn never_recurs(asked: Duration) -> bool {
        !asked.subsec_nanos().is_multiple_of(10_000_000)
    }

    /// What `grpc-timeout` says; a value that is not one is ignored.
    pub(crate) fn read(value: &HeaderValue) -> Option<Duration> {
        let text = value.to_str().ok()?;
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let amount: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(amount * 3_600),
            "M" => Duration::from_secs(amount * 60),
            "S" => Duration::from_secs(amount),
            "m" => Duration::from_millis(amount),
            "u" => Duration::from_micros(amount),
            "n" => Duration::from_nanos(amount),
            _ => return None,
        })
    }

    /// The value that says `left`: at most eight digits, in the finest unit that they hold.
    pub(crate) fn write(left: Duration) -> HeaderValue {
        const MOST: u128 = 99_999_999;
        let units = [
            (left.as_nanos(), b'n'),
            (left.as_micros(), b'u'),
            (left.as_millis(), b'm'),
            (u128::from(left.as_secs()), b'S'),
        ];
        let (amount, unit) = units
            .into_iter()
            .find(|(amount, _)| *amount <= MOST)
            .unwrap_or_else(|| (u128::from(left.as_secs() / 3_600).min(MOST), b'H'));
        let mut text = [0; 9];
        let mut start = text.len() - 1;
        text[start] = unit;
        let mut amount = u32::try_from(amount).expect("at most eight digits");
        loop {
            start -= 1;
            text[start] = b'0' + u8::try_from(amount % 10).expect("a digit");
            amount /= 10;
            if amount == 0 {
                break;
            }
        }
        HeaderValue::from_bytes(&text[start..]).expect("digits and a letter")
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, HeaderValue, Instant, Timeout};

    fn read(text: &'static str) -> Option<Duration> {
        Timeout::read(&HeaderValue::from_static(text))
    }

    #[test]
    fn every_unit_is_read_and_rubbish_is_not() {
        assert_eq!(read("2H"), Some(Duration::from_hours(2)));
        assert_eq!(read("3M"), Some(Duration::from_mins(3)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        assert_eq!(read("9n"), Some(Duration::from_nanos(9)));
        for rubbish in ["", "S", "1", "+1S", "123456789S", "1s", "1.5S"] {
            assert_eq!(read(rubbish), None, "{rubbish}");
        }
    }

    #[test]
    fn what_is_left_is_written_in_at_most_eight_digits() {
        assert_eq!(Timeout::write(Duration::ZERO), "0n");
        assert_eq!(Timeout::write(Duration::from_millis(1)), "1000000n");
        assert_eq!(Timeout::write(Duration::from_secs(1)), "1000000u");
        assert_eq!(Timeout::write(Duration::from_secs(1_000)), "1000000m");
        assert_eq!(Timeout::write(Duration::from_secs(1_000_000)), "1000000S");
        assert_eq!(Timeout::write(Duration::from_secs(u64::MAX)), "99999999H");
    }

    #[test]
    fn what_people_give_recurs_and_what_is_left_of_it_does_not() {
        for text in ["10S", "250m", "1500m", "2H", "10000000u"] {
            assert!(!Timeout::never_recurs(read(text).expect(text)), "{text}");
        }
        for text in ["9998765u", "1234m", "1n"] {
            assert!(Timeout::never_recurs(read(text).expect(text)), "{text}");
        }
    }

    #[test]
    fn a_later_attempt_says_what_is_left_and_stays_out_of_the_table() {
        let (second, began) = (Duration::from_secs(1), Instant::now());
        let timeout = Timeout::after(second, began).expect("soon");
        let later = timeout.left(began + second / 4);
        assert_eq!(later, "750000u");
        assert!(later.is_sensitive());
        assert_eq!(timeout.left(began + 2 * second), "0n");
    }
}
