//! When a call is tried again (gRFC A6), and after how long.

mod hedges;
mod throttle;

use std::time::Duration;

use http::HeaderMap;

use crate::{
    service_config::RetryPolicy,
    status::{Code, Status},
};

pub(crate) use hedges::Hedges;
pub(crate) use throttle::Throttle;

/// The server's word on retrying, in the trailers of a failure: milliseconds to wait, or a negative number for never.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Tells the server how many attempts there were before this one.
pub(crate) const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// Counts a call's attempts.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// Attempts that may have reached an application.
    failed: u32,
    /// Retries since the server last said when to come back: its word starts the backoff anew.
    backoffs: u32,
}

impl Tries {
    /// How many attempts there were that count.
    pub(crate) fn previous(&self) -> u32 {
        self.failed
    }

    /// How long to wait before the next try of a call that failed, or `None` when that was the last.
    ///
    /// What fails takes a token of the throttle's, whether or not there is another try; without enough of them there is
    /// none. So it is to be asked even when the request cannot be sent again.
    pub(crate) fn after(
        &mut self,
        failure: &Failure,
        policy: Option<&RetryPolicy>,
        throttle: Option<&Throttle>,
    ) -> Option<Duration> {
        let policy = policy?;
        self.failed += 1;
        let retries = policy.retries(failure.status.code);
        if retries || failure.pushback == Some(Pushback::Never) {
            throttle.inspect(|throttle| throttle.failed());
        }
        let allowed = throttle.is_none_or(Throttle::allows);
        if self.failed >= policy.max_attempts || !retries || !allowed {
            return None;
        }
        match failure.pushback {
            Some(Pushback::Never) => None,
            Some(Pushback::After(wait)) => {
                self.backoffs = 0;
                Some(wait)
            }
            None => {
                self.backoffs += 1;
                Some(backoff(policy, self.backoffs))
            }
        }
    }
}

/// A6: at random between 0.8 and 1.2 times `initialBackoff × backoffMultiplier^(n-1)`, at most `maxBackoff`, before the
/// n-th retry.
fn backoff(policy: &RetryPolicy, retry: u32) -> Duration {
    let exponent = i32::try_from(retry - 1).unwrap_or(i32::MAX);
    let grown = policy.initial_backoff.as_secs_f64() * policy.backoff_multiplier.powi(exponent);
    let base = grown.min(policy.max_backoff.as_secs_f64());
    Duration::from_secs_f64(base * (0.8 + 0.4 * fastrand::f64()))
}

/// An attempt that failed before it was committed to.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pushback: Option<Pushback>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pushback {
    Never,
    After(Duration),
}

impl Failure {
    /// The failure that a response tells which is trailers and nothing else.
    pub(crate) fn in_trailers(code: Code, headers: &HeaderMap) -> Self {
        let pushback = headers.get(PUSHBACK).map(|value| {
            // A value that is no number means the same as a negative one (A6).
            let wait = value
                .to_str()
                .ok()
                .and_then(|text| text.parse::<u32>().ok());
            wait.map_or(Pushback::Never, |ms| {
                Pushback::After(Duration::from_millis(ms.into()))
            })
        });
        Self {
            status: Status::from_headers(code, headers),
            pushback,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            status,
            pushback: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::{Code, Duration, Failure, HeaderMap, PUSHBACK, Status, Throttle, Tries};
    use crate::service_config::{RetryPolicy, RetryThrottling, ServiceConfig};

    fn policy() -> RetryPolicy {
        let json = r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"1s",
            "maxBackoff":"1.5s","backoffMultiplier":10,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#;
        let config = ServiceConfig::parse(json, &crate::policy::Policies::default()).expect(json);
        config
            .method("/a/b")
            .and_then(|method| method.retry.clone())
            .expect("a policy")
    }

    fn failure(code: Code, pushback: Option<&'static str>) -> Failure {
        let headers = pushback.map(|p| {
            (
                PUSHBACK.parse().expect("a name"),
                HeaderValue::from_static(p),
            )
        });
        Failure::in_trailers(code, &HeaderMap::from_iter(headers))
    }

    #[test]
    fn a_call_is_tried_as_often_as_its_policy_says_with_growing_waits() {
        let (policy, mut tries) = (policy(), Tries::default());
        let first = tries
            .after(&failure(Code::Unavailable, None), Some(&policy), None)
            .expect("a second try");
        let second = tries
            .after(&failure(Code::Unavailable, None), Some(&policy), None)
            .expect("a third try");
        assert!((0.8..=1.2).contains(&first.as_secs_f64()), "{first:?}");
        assert!(
            (1.2..=1.8).contains(&second.as_secs_f64()),
            "at most maxBackoff, ± 20 %: {second:?}"
        );
        assert_eq!(
            tries.after(&failure(Code::Unavailable, None), Some(&policy), None),
            None
        );
    }

    #[test]
    fn a_code_that_is_not_named_is_not_tried_again_and_without_a_policy_none_is() {
        assert_eq!(
            Tries::default().after(&failure(Code::Internal, None), Some(&policy()), None),
            None
        );
        assert_eq!(
            Tries::default().after(&Failure::from(Status::unavailable("")), None, None),
            None
        );
    }

    #[test]
    fn the_server_says_when_or_that_never() {
        let after = |text| {
            Tries::default().after(
                &failure(Code::Unavailable, Some(text)),
                Some(&policy()),
                None,
            )
        };
        assert_eq!(after("25"), Some(Duration::from_millis(25)));
        assert_eq!(after("-1"), None);
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn a_service_that_fails_too_much_is_not_tried_again_until_it_answers() {
        let throttle = Throttle::new(RetryThrottling {
            max_millitokens: 4_000,
            millitoken_ratio: 500,
        });
        let policy = policy();
        let retries = |code, pushback| {
            Tries::default()
                .after(&failure(code, pushback), Some(&policy), Some(&throttle))
                .is_some()
        };
        assert!(!retries(Code::Internal, None));
        assert!(retries(Code::Unavailable, None), "three are left of four");
        assert!(!retries(Code::Unavailable, None), "two are left");
        assert!(!retries(Code::Internal, Some("-1")), "one");
        for _ in 0..5 {
            throttle.succeeded();
        }
        assert!(throttle.allows(), "three and a half");
        assert!(retries(Code::Unavailable, None), "two and a half are left");
    }
}
