//! How the registry is read, and how a registration in it stands.

use std::sync::Arc;

use opentelemetry::{KeyValue, metrics::Meter};
use registry::{RegistrationState, Registry};

/// Has the meter read what the registry has counted.
pub(super) fn observe_registry(meter: &Meter, registry: &Registry) {
    let counter = |name, description, count: fn(&Registry) -> u64| {
        let registry = registry.clone();
        meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |counter| counter.observe(count(&registry), &[]))
            .build();
    };
    counter(
        "discovery.undecodable",
        "Values in the registry that were skipped because they are no instances, or no intents",
        Registry::undecodable,
    );
    counter(
        "discovery.reconciled",
        "Comparisons of what running watches have told with what is there",
        |registry| registry.reconciled().lists,
    );
    counter(
        "discovery.reconcile.differences",
        "Entries that were otherwise than a running watch had told; there should be none",
        |registry| registry.reconciled().differences,
    );
}

/// Has the meter read how the registration stands `now`, and with it whether what is registered is ready for calls.
pub(super) fn observe_registration(
    meter: &Meter,
    now: impl Fn() -> Option<RegistrationState> + Send + Sync + 'static,
    is_ready: impl Fn() -> bool + Send + Sync + 'static,
) {
    let now = Arc::new(now);
    let asked = Arc::clone(&now);
    meter
        .u64_observable_gauge("discovery.registered")
        .with_description("Whether this instance is ready, and registered as serving: 1 or 0")
        .with_callback(move |gauge| {
            let is_registered = asked().is_some_and(|state| state.problem().is_none());
            gauge.observe((is_registered && is_ready()).into(), &[]);
        })
        .build();
    meter
        .u64_observable_gauge("discovery.registration.state")
        .with_description(
            "How the registration stands: 1 at the state that it is in, 0 at the others",
        )
        .with_callback(move |gauge| {
            let state = now();
            let state = state.as_ref().map(RegistrationState::name);
            for name in RegistrationState::NAMES {
                let is_it = u64::from(state == Some(name));
                gauge.observe(is_it, &[KeyValue::new("state", name)]);
            }
        })
        .build();
}
