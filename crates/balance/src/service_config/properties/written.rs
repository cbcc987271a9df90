//! Configs as they are meant, each with the JSON that says so.

use std::{num::NonZeroU32, time::Duration};

use proptest::{collection, option, prelude::*};
use serde_json::{Value, json};

use super::super::{
    attempts::{HedgingPolicy, RetryPolicy},
    load_balancing::Balancing,
    method::MethodConfig,
    number::Percent,
    wrappers::{
        Canary, MassLossProtection, PanicThreshold, RandomSubsetting, SlowStart, ZonePreference,
    },
};
use crate::{
    outlier::{ConsecutiveFailures, FailurePercentage, Settings, SuccessRate},
    policy::Policies,
    status::Code,
    transport::Timeout,
};

/// A wrapper's name and its settings.
type Wrapper = (&'static str, Value);

fn percent() -> impl Strategy<Value = (Percent, u8)> {
    (1..=100_u8).prop_map(|number| (Percent::new(number).expect("a percent"), number))
}

fn duration() -> impl Strategy<Value = (Duration, String)> {
    (1..100_000_u64, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| {
        let text = format!("{seconds}.{nanos:09}s");
        (Duration::new(seconds, nanos), text)
    })
}

fn codes() -> impl Strategy<Value = (Vec<Code>, Vec<Value>)> {
    let code = (0..=16_usize, any::<bool>()).prop_map(|(number, by_name)| {
        let code = Code::from_number(number);
        let written = if by_name {
            code.name().into()
        } else {
            number.into()
        };
        (code, written)
    });
    collection::vec(code, 1..5).prop_map(|codes| codes.into_iter().unzip())
}

/// What is meant by a policy and the wrappers around it, and these in any order.
pub(super) fn balancing() -> impl Strategy<Value = (Balancing, Vec<Wrapper>)> {
    let first = (
        option::of(outlier_detection()),
        option::of(random_subsetting()),
        option::of(zone_preference()),
        option::of(canary()),
    );
    let second = (
        option::of(slow_start()),
        option::of(panic_threshold()),
        option::of(mass_loss()),
    );
    let all =
        (first, second).prop_map(|((outliers, subset, zone, canary), (slow, panic, loss))| {
            let round_robin = Policies::default().config("round_robin", json!({}));
            let mut written = Vec::new();
            let balancing = Balancing {
                policy: round_robin.ok().flatten().expect("known"),
                outlier_detection: keep(&mut written, outliers),
                random_subsetting: keep(&mut written, subset),
                zone_preference: keep(&mut written, zone),
                canary: keep(&mut written, canary),
                slow_start: keep(&mut written, slow),
                panic_threshold: keep(&mut written, panic),
                mass_loss: keep(&mut written, loss),
            };
            (balancing, written)
        });
    all.prop_flat_map(|(balancing, written)| (Just(balancing), Just(written).prop_shuffle()))
}

fn keep<T>(written: &mut Vec<Wrapper>, wrapper: Option<(T, Wrapper)>) -> Option<T> {
    let (meant, wrapper) = wrapper?;
    written.push(wrapper);
    Some(meant)
}

fn outlier_detection() -> impl Strategy<Value = (Settings, Wrapper)> {
    let ejections = (
        option::of(success_rate()),
        option::of(failure_percentage()),
        option::of(consecutive_failures()),
    );
    (duration(), duration(), duration(), 0..=100_u32, ejections).prop_map(
        |(interval, base, max, most, (success_rate, failures, row))| {
            let mut json = json!({"interval": interval.1, "baseEjectionTime": base.1, "maxEjectionTime": max.1,
                "maxEjectionPercent": most});
            let meant = Settings {
                interval: interval.0,
                base_ejection_time: base.0,
                max_ejection_time: max.0,
                max_ejection_percent: most,
                success_rate: set(&mut json, "successRateEjection", success_rate),
                failure_percentage: set(&mut json, "failurePercentageEjection", failures),
                consecutive_failures: set(&mut json, "consecutiveFailures", row),
            };
            (meant, ("outlier_detection", json))
        },
    )
}

fn at_least_one() -> impl Strategy<Value = NonZeroU32> {
    (1..=u32::MAX).prop_map(|number| NonZeroU32::new(number).expect("not zero"))
}

fn set<T>(json: &mut Value, key: &str, part: Option<(T, Value)>) -> Option<T> {
    let (meant, written) = part?;
    json[key] = written;
    Some(meant)
}

fn success_rate() -> impl Strategy<Value = (SuccessRate, Value)> {
    (any::<u32>(), 0..=100_u32, any::<u32>(), any::<u32>()).prop_map(
        |(stdev_factor, enforcement_percentage, minimum_hosts, request_volume)| {
            let json = json!({"stdevFactor": stdev_factor, "enforcementPercentage": enforcement_percentage,
                "minimumHosts": minimum_hosts, "requestVolume": request_volume});
            let meant = SuccessRate {
                stdev_factor,
                enforcement_percentage,
                minimum_hosts,
                request_volume,
            };
            (meant, json)
        },
    )
}

fn failure_percentage() -> impl Strategy<Value = (FailurePercentage, Value)> {
    (0..=100_u32, 0..=100_u32, any::<u32>(), any::<u32>()).prop_map(
        |(threshold, enforcement_percentage, minimum_hosts, request_volume)| {
            let json = json!({"threshold": threshold, "enforcementPercentage": enforcement_percentage,
                "minimumHosts": minimum_hosts, "requestVolume": request_volume.to_string()});
            let meant = FailurePercentage {
                threshold,
                enforcement_percentage,
                minimum_hosts,
                request_volume,
            };
            (meant, json)
        },
    )
}

fn consecutive_failures() -> impl Strategy<Value = (ConsecutiveFailures, Value)> {
    (at_least_one(), 0..=100_u32).prop_map(|(threshold, enforcement_percentage)| {
        let json = json!({"threshold": threshold, "enforcementPercentage": enforcement_percentage});
        let meant = ConsecutiveFailures {
            threshold,
            enforcement_percentage,
        };
        (meant, json)
    })
}

fn random_subsetting() -> impl Strategy<Value = (RandomSubsetting, Wrapper)> {
    at_least_one().prop_map(|subset_size| {
        let json = json!({"subsetSize": subset_size});
        (
            RandomSubsetting { subset_size },
            ("random_subsetting_experimental", json),
        )
    })
}

fn zone_preference() -> impl Strategy<Value = (ZonePreference, Wrapper)> {
    (at_least_one(), 1.0..10.0_f64).prop_map(|(min_endpoints, overprovisioning)| {
        let meant = ZonePreference {
            min_endpoints,
            overprovisioning,
        };
        let json = json!({"minEndpoints": min_endpoints, "overprovisioning": overprovisioning});
        (meant, ("zone_preference", json))
    })
}

fn canary() -> impl Strategy<Value = (Canary, Wrapper)> {
    let labels = collection::btree_map(any::<String>(), any::<String>(), 1..3);
    (option::of(any::<String>()), labels, any::<bool>(), percent()).prop_map(
        |(version, labels, by_header, share)| {
            let header = by_header.then_some("x-canary");
            let json = json!({"version": version, "labels": labels, "header": header, "sharePercent": share.1});
            let meant = Canary {
                version,
                labels,
                header: header.map(http::HeaderName::from_static),
                share_percent: share.0,
            };
            (meant, ("canary", json))
        },
    )
}

fn slow_start() -> impl Strategy<Value = (SlowStart, Wrapper)> {
    (duration(), 0.1..10.0_f64, percent()).prop_map(|(window, aggression, least)| {
        let json =
            json!({"window": window.1, "aggression": aggression, "minWeightPercent": least.1});
        let meant = SlowStart {
            window: window.0,
            aggression,
            min_weight_percent: least.0,
        };
        (meant, ("slow_start", json))
    })
}

fn panic_threshold() -> impl Strategy<Value = (PanicThreshold, Wrapper)> {
    percent().prop_map(|(healthy_percent, number)| {
        let json = json!({"healthyPercent": number});
        (
            PanicThreshold { healthy_percent },
            ("panic_threshold", json),
        )
    })
}

fn mass_loss() -> impl Strategy<Value = (MassLossProtection, Wrapper)> {
    (percent(), duration()).prop_map(|(lost, hold)| {
        let json = json!({"lostPercent": lost.1, "holdFor": hold.1});
        let meant = MassLossProtection {
            lost_percent: lost.0,
            hold_for: hold.0,
        };
        (meant, ("mass_loss_protection", json))
    })
}

/// What is meant by an entry of `methodConfig`, and the entry without its names.
pub(super) fn method() -> impl Strategy<Value = (MethodConfig, Value)> {
    let attempts = prop_oneof![
        Just((None, None)),
        retry().prop_map(|retry| (Some(retry), None)),
        hedging().prop_map(|hedging| (None, Some(hedging))),
    ];
    let limits = (option::of(any::<u32>()), option::of(any::<u32>()));
    (
        option::of(duration()),
        option::of(any::<bool>()),
        attempts,
        limits,
    )
        .prop_map(
            |(timeout, wait_for_ready, (retry, hedging), (request, response))| {
                let (timeout, written) = timeout.unzip();
                let mut json = json!({"timeout": written, "waitForReady": wait_for_ready,
                "maxRequestMessageBytes": request, "maxResponseMessageBytes": response});
                let meant = MethodConfig {
                    timeout,
                    timeout_value: timeout.map(Timeout::write),
                    wait_for_ready,
                    retry: set(&mut json, "retryPolicy", retry),
                    hedging: set(&mut json, "hedgingPolicy", hedging),
                    max_request_message_bytes: request,
                    max_response_message_bytes: response,
                };
                (meant, json)
            },
        )
}

fn retry() -> impl Strategy<Value = (RetryPolicy, Value)> {
    (2..9_u32, duration(), duration(), 0.1..10.0_f64, codes()).prop_map(
        |(attempts, initial, max, multiplier, (codes, written))| {
            let json = json!({"maxAttempts": attempts, "initialBackoff": initial.1, "maxBackoff": max.1,
                "backoffMultiplier": multiplier, "retryableStatusCodes": written});
            let meant = RetryPolicy {
                max_attempts: attempts.min(5),
                initial_backoff: initial.0,
                max_backoff: max.0,
                backoff_multiplier: multiplier,
                retryable_status_codes: codes.into_iter().collect(),
            };
            (meant, json)
        },
    )
}

fn hedging() -> impl Strategy<Value = (HedgingPolicy, Value)> {
    (2..9_u32, duration(), codes()).prop_map(|(attempts, delay, (codes, written))| {
        let json = json!({"maxAttempts": attempts, "hedgingDelay": delay.1, "nonFatalStatusCodes": written});
        let meant = HedgingPolicy {
            max_attempts: attempts.min(5),
            hedging_delay: delay.0,
            non_fatal_status_codes: codes.into_iter().collect(),
        };
        (meant, json)
    })
}
