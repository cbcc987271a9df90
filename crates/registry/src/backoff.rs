//! How long to wait before the next try.

use std::time::Duration;

use tokio::time::Instant;

/// The numbers of an exponential backoff.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackoffPolicy {
    /// The wait after the first failure.
    pub initial: Duration,
    /// The longest wait, before jitter.
    pub max: Duration,
    /// What each further failure multiplies the wait by.
    pub multiplier: f64,
    /// The share by which a wait is made longer or shorter at random, 0.0 to 1.0.
    pub jitter: f64,
}

impl BackoffPolicy {
    /// gRPC's connection backoff (grpc/grpc `doc/connection-backoff.md`): 1 s × 1.6, at most 120 s, ± 20 %.
    pub const GRPC: Self = Self {
        initial: Duration::from_secs(1),
        max: Duration::from_mins(2),
        multiplier: 1.6,
        jitter: 0.2,
    };

    /// The same with at most `max` between two tries, jitter included.
    #[must_use]
    pub fn capped(self, max: Duration) -> Self {
        let max = max.div_f64(1.0 + self.jitter);
        Self {
            max: self.max.min(max),
            initial: self.initial.min(max),
            ..self
        }
    }
}

/// The state of a backoff: how many failures there were since the last quiet time.
///
/// ```
/// use registry::{Backoff, BackoffPolicy};
/// let mut backoff = Backoff::new(BackoffPolicy::GRPC);
/// let first = backoff.next_delay();
/// assert!(first.as_secs_f64() >= 0.8 && first.as_secs_f64() <= 1.2);
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    failures: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// A backoff that has not seen a failure.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self {
            policy,
            failures: 0,
            last: None,
        }
    }

    /// Counts a failure and says how long to wait before the next try.
    ///
    /// A failure that comes long after the last (ten times the longest wait) counts as the first.
    pub fn next_delay(&mut self) -> Duration {
        let now = Instant::now();
        if self
            .last
            .is_some_and(|last| now.duration_since(last) > self.policy.max.saturating_mul(10))
        {
            self.failures = 0;
        }
        self.last = Some(now);
        let exponent = i32::try_from(self.failures).unwrap_or(i32::MAX).min(1_000);
        self.failures = self.failures.saturating_add(1);
        let grown = self.policy.initial.as_secs_f64() * self.policy.multiplier.powi(exponent);
        let base = grown.min(self.policy.max.as_secs_f64());
        let spread = self.policy.jitter * (fastrand::f64() * 2.0 - 1.0);
        Duration::from_secs_f64(base * (1.0 + spread))
    }

    /// How many failures there were since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets all failures: it worked.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, BackoffPolicy, Duration};

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_the_cap_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(
            BackoffPolicy {
                jitter: 0.0,
                ..BackoffPolicy::GRPC
            }
            .capped(Duration::from_secs(2)),
        );
        let waits: Vec<_> = (0..4).map(|_| backoff.next_delay().as_millis()).collect();
        assert_eq!(waits, [1000, 1600, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.next_delay().as_millis(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cap_holds_for_the_longest_wait_and_leaves_the_waits_apart() {
        let cap = Duration::from_secs(2);
        let mut backoff = Backoff::new(BackoffPolicy::GRPC.capped(cap));
        let waits: Vec<_> = (0..1_000).map(|_| backoff.next_delay()).collect();
        assert!(waits.iter().all(|wait| *wait <= cap));
        let longest = waits.iter().filter(|wait| **wait == cap).count();
        assert!(longest < 10, "jitter is left: {longest} waits are the same");
        assert!(
            waits[100..]
                .iter()
                .any(|wait| *wait > Duration::from_millis(1_900))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn grpc_waits_two_minutes_at_most_and_a_fifth_more_or_less() {
        let mut backoff = Backoff::new(BackoffPolicy::GRPC);
        let waits: Vec<_> = (0..1_000)
            .map(|_| backoff.next_delay().as_secs_f64())
            .collect();
        // 1.6 to the tenth is 110.
        assert!(waits[..10].iter().all(|wait| *wait < 110.0 * 1.2));
        let longest = &waits[11..];
        assert!(longest.iter().all(|wait| (96.0..=144.0).contains(wait)));
        assert!(longest.iter().any(|wait| *wait < 100.0));
        assert!(longest.iter().any(|wait| *wait > 140.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_long_after_the_last_counts_as_the_first() {
        let mut backoff = Backoff::new(
            BackoffPolicy {
                jitter: 0.0,
                ..BackoffPolicy::GRPC
            }
            .capped(Duration::from_secs(2)),
        );
        backoff.next_delay();
        backoff.next_delay();
        tokio::time::advance(Duration::from_secs(21)).await;
        assert_eq!(backoff.next_delay().as_millis(), 1000);
    }
}
