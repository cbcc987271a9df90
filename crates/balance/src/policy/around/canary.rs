//! Canary routing: which calls go to the instances that are tried out, by a header of the call.

use http::{HeaderMap, HeaderName};

use super::{
    slow_start::{draw, is_within},
    split::{Route, Router},
};
use crate::{
    policy::{CallInfo, Endpoint, Endpoints, hashing::hash},
    service_config::Canary,
    target::Selector,
};

/// The instances that are tried out.
pub(super) struct CanaryRoute {
    selector: Selector,
    rule: CanaryRule,
}

impl CanaryRoute {
    pub(super) fn new(settings: &Canary) -> Self {
        Self {
            selector: Selector::new(settings.version.clone(), settings.labels.clone()),
            rule: CanaryRule {
                header: settings.header.clone(),
                share: settings.share_percent.into(),
            },
        }
    }
}

impl Route for CanaryRoute {
    type Router = CanaryRule;

    fn owns(&self, endpoint: &Endpoint) -> bool {
        self.selector.selects(&endpoint.instance())
    }

    fn why_none(&self, all_to_part: bool) -> String {
        let asked = match &self.rule.header {
            Some(header) => format!(" but for those whose {header} says otherwise"),
            None => String::new(),
        };
        let whose = if all_to_part {
            "no canary: all calls go to the canaries"
        } else {
            "a canary: all calls go to the others"
        };
        format!("{whose}{asked}")
    }

    fn router(&self, _part: &Endpoints<'_>, _rest: &Endpoints<'_>) -> CanaryRule {
        self.rule.clone()
    }
}

impl Router for CanaryRule {
    fn takes_all(&self) -> Option<bool> {
        match self.share {
            ..=0.0 => Some(false),
            1.0.. => Some(true),
            _ => None,
        }
    }

    fn takes(&self, call: &CallInfo<'_>) -> bool {
        self.takes(call.headers(), || fastrand::u64(..))
    }
}

/// What keys are drawn for here.
const CANARIES: u64 = u64::from_be_bytes(*b"canaries");

/// Sends a share of the calls to the canaries, decided by the value of a header: calls with equal values go the same way.
///
/// The values `always` and `never` decide for themselves. Of the calls without the header, a random share goes.
#[derive(Debug, Clone)]
pub(super) struct CanaryRule {
    header: Option<HeaderName>,
    /// From 0 to 1.
    share: f64,
}

impl CanaryRule {
    /// Whether the call with these headers goes to the canaries.
    fn takes(&self, headers: &HeaderMap, random: impl FnOnce() -> u64) -> bool {
        let value = self.header.as_ref().and_then(|header| headers.get(header));
        let draw = match value.map(http::HeaderValue::as_bytes) {
            Some(b"always") => return true,
            Some(b"never") => return false,
            Some(value) => draw(hash(value), CANARIES),
            None => random(),
        };
        self.share >= 1.0 || is_within(self.share, draw)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::CanaryRule;

    const USER: HeaderName = HeaderName::from_static("x-user");

    fn user(value: &str) -> HeaderMap {
        [(USER, HeaderValue::from_str(value).expect("a value"))]
            .into_iter()
            .collect()
    }

    fn rule(share: f64) -> CanaryRule {
        CanaryRule {
            header: Some(USER),
            share,
        }
    }

    #[test]
    fn a_caller_decides_for_itself() {
        assert!(rule(0.0).takes(&user("always"), || 0));
        assert!(!rule(1.0).takes(&user("never"), || 0));
    }

    #[test]
    fn the_share_of_values_is_right_and_stays_with_a_larger_one() {
        let takes = |share: f64| {
            (0..10_000).filter(move |i| rule(share).takes(&user(&format!("user {i}")), || 0))
        };
        let found = takes(0.05).count() as f64 / 10_000.0;
        assert!((found - 0.05).abs() < 0.01, "{found}");
        let larger: std::collections::HashSet<_> = takes(0.2).collect();
        assert!(
            takes(0.05).all(|user| larger.contains(&user)),
            "who is in is not put out by a larger share"
        );
    }

    #[test]
    fn without_the_header_chance_decides() {
        let mut random = fastrand::Rng::with_seed(5);
        let taken = (0..10_000)
            .filter(|_| rule(0.3).takes(&HeaderMap::new(), || random.u64(..)))
            .count();
        assert!((2_800..3_200).contains(&taken), "{taken}");
        assert!(
            rule(1.0).takes(&HeaderMap::new(), || u64::MAX)
                && !rule(0.0).takes(&HeaderMap::new(), || 0)
        );
    }
}
