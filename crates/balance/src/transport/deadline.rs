//! When a call is over, whatever comes of it: one timer for the whole of it, response body included.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use http::HeaderValue;
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

/// gRPC's request header that tells the server how long the caller waits (grpc/grpc `doc/PROTOCOL-HTTP2.md`).
pub(crate) const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The moment that a call is over.
#[derive(Debug)]
pub(crate) struct Deadline {
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
}

/// The deadline has passed.
#[derive(Debug)]
pub(crate) struct Expired;

impl Deadline {
    /// The moment `timeout` from now. Longer than a timer can run is never.
    pub(crate) fn after(timeout: Duration) -> Option<Self> {
        let at = Instant::now().checked_add(timeout)?;
        Some(Self {
            timeout,
            sleep: Box::pin(sleep_until(at)),
        })
    }

    /// How long the call was given.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn at(&self) -> Instant {
        self.sleep.deadline()
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        self.sleep.as_mut().poll(cx).map(|()| Expired)
    }

    /// The same outside of tokio's budget for a task: the waker is called when the deadline has passed, and only then.
    pub(super) fn poll_expired_at_any_cost(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        pin!(unconstrained(poll_fn(|cx| self.poll_expired(cx)))).poll(cx)
    }

    /// Runs `future` until it ends or the deadline passes.
    pub(crate) async fn bound<F: Future>(
        deadline: Option<&mut Self>,
        future: F,
    ) -> Result<F::Output, Expired> {
        let Some(deadline) = deadline else {
            return Ok(future.await);
        };
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => deadline.poll_expired(cx).map(Err),
        })
        .await
    }
}

/// What `grpc-timeout` says; a value that is not one is ignored.
pub(crate) fn timeout_from(value: &HeaderValue) -> Option<Duration> {
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
pub(crate) fn timeout_value(left: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let units = [
        (left.as_nanos(), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (u128::from(left.as_secs()), 'S'),
    ];
    let (amount, unit) = units
        .into_iter()
        .find(|(amount, _)| *amount <= MOST)
        .unwrap_or_else(|| (u128::from(left.as_secs() / 3_600).min(MOST), 'H'));
    let mut value = HeaderValue::try_from(format!("{amount}{unit}")).expect("digits and a letter");
    // Almost never twice the same: as "sensitive" it stays out of HPACK's table, where it would push out what does recur.
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::{Duration, HeaderValue, timeout_from, timeout_value};

    fn read(text: &'static str) -> Option<Duration> {
        timeout_from(&HeaderValue::from_static(text))
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
        let written = |left| timeout_value(left);
        assert_eq!(written(Duration::from_millis(1)), "1000000n");
        assert_eq!(written(Duration::from_secs(1)), "1000000u");
        assert_eq!(written(Duration::from_secs(1_000)), "1000000m");
        assert_eq!(written(Duration::from_secs(1_000_000)), "1000000S");
        assert_eq!(written(Duration::from_secs(u64::MAX)), "99999999H");
    }
}
