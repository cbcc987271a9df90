//! Tokens that keep retries and hedges from a service that fails most of its calls (gRFC A6, "Throttling").

use std::sync::atomic::{AtomicU32, Ordering};

use crate::service_config::RetryThrottling;

/// A token, in the unit of the count.
const TOKEN: u32 = 1000;

/// The tokens of a channel, shared by all its calls.
///
/// An attempt that failed takes one, a call that succeeded gives `tokenRatio` back. While no more than half are there,
/// nothing is retried or hedged. One atomic: its count orders nothing else.
#[derive(Debug)]
pub(crate) struct Throttle {
    settings: RetryThrottling,
    millitokens: AtomicU32,
}

impl Throttle {
    /// All tokens are there.
    pub(crate) fn new(settings: RetryThrottling) -> Self {
        Self {
            millitokens: AtomicU32::new(settings.max_millitokens),
            settings,
        }
    }

    /// Whether it goes by these settings.
    pub(crate) fn has(&self, settings: RetryThrottling) -> bool {
        self.settings == settings
    }

    /// The tokens by other settings: the same share of them is there, so that a new service config neither forgets that a
    /// service fails nor holds that against it for longer.
    pub(crate) fn with_settings(&self, settings: RetryThrottling) -> Self {
        let [now, before, max] = [
            self.millitokens.load(Ordering::Relaxed),
            self.settings.max_millitokens.max(1),
            settings.max_millitokens,
        ]
        .map(u64::from);
        let share = u32::try_from(now * max / before).unwrap_or(settings.max_millitokens);
        Self {
            millitokens: AtomicU32::new(share.min(settings.max_millitokens)),
            settings,
        }
    }

    /// Whether a retry or a hedge may be sent.
    pub(crate) fn allows(&self) -> bool {
        self.millitokens.load(Ordering::Relaxed) > self.settings.max_millitokens / 2
    }

    /// A call has ended with OK.
    pub(crate) fn succeeded(&self) {
        let max = self.settings.max_millitokens;
        // Nearly always: a service that is well costs its callers one load.
        if self.millitokens.load(Ordering::Relaxed) < max {
            self.change(|tokens| {
                tokens
                    .saturating_add(self.settings.millitoken_ratio)
                    .min(max)
            });
        }
    }

    /// An attempt has ended with a code that is retried or hedged on, or the server said never to come back.
    pub(super) fn failed(&self) {
        self.change(|tokens| tokens.saturating_sub(TOKEN));
    }

    fn change(&self, to: impl Fn(u32) -> u32) {
        // Never fails: there is always a next count.
        let _ = self
            .millitokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| {
                Some(to(tokens))
            });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Ordering, RetryThrottling, TOKEN, Throttle};

    fn settings(max: u32, millitoken_ratio: u32) -> RetryThrottling {
        RetryThrottling {
            max_millitokens: max * TOKEN,
            millitoken_ratio,
        }
    }

    fn count(throttle: &Throttle) -> u32 {
        throttle.millitokens.load(Ordering::Relaxed)
    }

    #[test]
    fn retries_stop_when_half_the_tokens_are_gone_and_come_back_with_successes() {
        let throttle = Throttle::new(settings(10, 500));
        for _ in 0..4 {
            throttle.failed();
            assert!(throttle.allows());
        }
        throttle.failed();
        assert!(!throttle.allows(), "exactly half are left");
        throttle.succeeded();
        assert!(throttle.allows());
    }

    #[test]
    fn other_settings_keep_the_share_of_tokens() {
        let throttle = Throttle::new(settings(10, 500));
        for _ in 0..6 {
            throttle.failed();
        }
        let larger = throttle.with_settings(settings(100, 1));
        assert_eq!(count(&larger), 40 * TOKEN);
        assert!(!larger.allows());
        assert_eq!(count(&larger.with_settings(settings(5, 1))), 2 * TOKEN);
    }

    #[test]
    fn no_token_is_lost_between_threads() {
        let throttle = Throttle::new(settings(1000, 100));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        throttle.failed();
                    }
                });
            }
        });
        assert_eq!(count(&throttle), 200 * TOKEN);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        throttle.succeeded();
                    }
                });
            }
        });
        assert_eq!(count(&throttle), 600 * TOKEN);
    }

    proptest! {
        #[test]
        fn there_are_never_fewer_than_none_or_more_than_all(
            max in 1u32..=1000,
            ratio in 1u32..=1_000_000,
            successes in prop::collection::vec(any::<bool>(), 0..3_000),
        ) {
            let throttle = Throttle::new(settings(max, ratio));
            let max = i64::from(max * TOKEN);
            let mut expected = max;
            for success in successes {
                if success {
                    throttle.succeeded();
                    expected = (expected + i64::from(ratio)).min(max);
                } else {
                    throttle.failed();
                    expected = (expected - i64::from(TOKEN)).max(0);
                }
                prop_assert_eq!(i64::from(count(&throttle)), expected);
                prop_assert_eq!(throttle.allows(), 2 * expected > max);
            }
        }

        #[test]
        fn other_settings_never_give_more_than_all(
            before in 1u32..=1000,
            after in 1u32..=1000,
            failures in 0u32..1200,
        ) {
            let throttle = Throttle::new(settings(before, 1));
            for _ in 0..failures {
                throttle.failed();
            }
            let other = throttle.with_settings(settings(after, 1));
            prop_assert!(count(&other) <= after * TOKEN);
            prop_assert_eq!(count(&other) == 0, count(&throttle) == 0);
        }
    }
}
