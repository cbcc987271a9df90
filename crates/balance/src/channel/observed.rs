//! What a channel tells of itself whenever its metrics are read: endpoints, calls, staleness. No call pays for it.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use http::uri::Scheme;
use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Meter},
};
use registry::{Freshness, Snapshot};

use super::Shared;
use crate::{
    subchannel::ConnectivityState,
    target::Target,
    telemetry::{Labels, Named, OptionalLabel, TARGET, Telemetry},
};

/// Reads one figure of a channel.
type Figure = fn(&Shared) -> u64;

const GAUGES: [(&str, &str, &str, Figure); 6] = [
    (
        "balance.calls.in_flight",
        "{call}",
        "Calls that were let in and have not ended",
        |channel| channel.admission.in_flight() as u64,
    ),
    (
        "balance.calls.queued",
        "{call}",
        "Calls that wait for an endpoint, or for a free stream",
        |channel| channel.stats.queued() as u64,
    ),
    (
        "balance.instances",
        "{instance}",
        "Instances that the registry lists, whether or not they take calls",
        |channel| listed(channel) as u64,
    ),
    (
        "balance.endpoints.ejected",
        "{endpoint}",
        "Endpoints that the outlier detection keeps calls from",
        |channel| remarked(channel, |remark| remark.ejected.is_some()),
    ),
    (
        "balance.endpoints.held",
        "{endpoint}",
        "Endpoints that serve on although the registry has dropped them",
        |channel| remarked(channel, |remark| remark.held),
    ),
    (
        "balance.panicking",
        "{channel}",
        "1 while all endpoints are used because too few are healthy, else 0",
        |channel| u64::from(channel.published.load().panicking),
    ),
];

const COUNTERS: [(&str, &str, &str, Figure); 4] = [
    (
        "balance.service_configs.refused",
        "{service_config}",
        "Service configs from the registry that could not be used",
        |channel| channel.stats.refused_configs(),
    ),
    (
        "balance.pickers",
        "{picker}",
        "How often the picker was made anew",
        |channel| channel.stats.rebuilds(),
    ),
    (
        "balance.panics",
        "{panic}",
        "How often too few endpoints were healthy, so that all were used",
        |channel| channel.stats.panics(),
    ),
    (
        "balance.mass_losses",
        "{loss}",
        "How often the registry dropped so many endpoints at once that they served on",
        |channel| channel.stats.mass_losses(),
    ),
];

const STATES: [ConnectivityState; 4] = [
    ConnectivityState::Idle,
    ConnectivityState::Connecting,
    ConnectivityState::Ready,
    ConnectivityState::TransientFailure,
];

/// What is to be measured of a channel: by default nothing.
#[derive(Debug, Default)]
pub(super) struct Measuring {
    pub(super) meter: Option<Meter>,
    pub(super) methods: Named,
    pub(super) labels: Labels,
    /// Whether endpoints are told apart.
    pub(super) endpoints: bool,
}

impl Measuring {
    /// What measures the calls of a channel to `target`.
    pub(super) fn calls(&self, target: &Target) -> Telemetry {
        match &self.meter {
            Some(meter) => Telemetry::new(meter, &name(target), self.methods.clone(), self.labels),
            None => Telemetry::default(),
        }
    }

    /// Has the meter read the channel for as long as that lives.
    pub(super) fn observe(&self, channel: &Arc<Shared>) {
        if let Some(meter) = &self.meter {
            observe(meter, channel, self.labels, self.endpoints);
        }
    }
}

fn name(target: &Target) -> Arc<str> {
    target.to_string().into()
}

/// A meter does not let go of what it reads: what stays of a channel that is gone is a few words for each instrument.
fn observe(meter: &Meter, channel: &Arc<Shared>, labels: Labels, each: bool) {
    let observed = Observed {
        channel: Arc::downgrade(channel),
        target: KeyValue::new(TARGET, name(&channel.target)),
    };
    for (name, unit, description, figure) in GAUGES {
        let gauge = meter.u64_observable_gauge(name).with_unit(unit);
        let gauge = gauge.with_description(description);
        gauge.with_callback(observed.figure(figure)).build();
    }
    for (name, unit, description, figure) in COUNTERS {
        let counter = meter.u64_observable_counter(name).with_unit(unit);
        let counter = counter.with_description(description);
        counter.with_callback(observed.figure(figure)).build();
    }
    observe_endpoints(meter, &observed);
    observe_connections(meter, &observed, labels);
    if each {
        observe_picks(meter, &observed);
    }
    let stale = observed.callback(|channel, target, to: &dyn AsyncInstrument<f64>| {
        let seconds = match &channel.published.load().freshness {
            // It has never been current.
            Freshness::Starting => return,
            Freshness::Live => 0.0,
            Freshness::Stale { since, .. } => since.elapsed().as_secs_f64(),
        };
        to.observe(seconds, std::slice::from_ref(target));
    });
    meter
        .f64_observable_gauge("balance.list.staleness")
        .with_unit("s")
        .with_description("For how long the list of endpoints has not been known to be current")
        .with_callback(stale)
        .build();
}

fn observe_endpoints(meter: &Meter, observed: &Observed) {
    let by_state = observed.callback(|channel, target, to: &dyn AsyncInstrument<u64>| {
        let mut counts = [0; STATES.len()];
        for endpoint in &*channel.published.load().endpoints {
            let state = endpoint.subchannel().state().connectivity;
            if let Some(place) = STATES.iter().position(|known| *known == state) {
                counts[place] += 1;
            }
        }
        for (state, count) in STATES.iter().zip(counts) {
            let state = KeyValue::new("state", state.as_str());
            to.observe(count, &[target.clone(), state]);
        }
    });
    meter
        .u64_observable_gauge("balance.endpoints")
        .with_unit("{endpoint}")
        .with_description("Endpoints by their connectivity state")
        .with_callback(by_state)
        .build();
}

fn observe_connections(meter: &Meter, observed: &Observed, labels: Labels) {
    let connections = observed.callback(move |channel, target, to: &dyn AsyncInstrument<i64>| {
        let by_zone = labels.has(OptionalLabel::Locality);
        let mut open = HashMap::from([(None, 0)]);
        for endpoint in &*channel.published.load().endpoints {
            let zone = endpoint.zone().filter(|_| by_zone);
            *open.entry(zone).or_default() += endpoint.subchannel().connections().len();
        }
        let encrypted = channel.connect.scheme == Scheme::HTTPS;
        for (zone, count) in open {
            let mut attributes = vec![target.clone()];
            attributes.extend(labels.locality(|| zone));
            attributes.extend(labels.security_level(encrypted));
            to.observe(i64::try_from(count).unwrap_or(i64::MAX), &attributes);
        }
    });
    // gRFC A94's name.
    meter
        .i64_observable_up_down_counter("grpc.subchannel.open_connections")
        .with_unit("{connection}")
        .with_description("Connections that take calls")
        .with_callback(connections)
        .build();
}

fn observe_picks(meter: &Meter, observed: &Observed) {
    let picks = observed.callback(|channel, target, to: &dyn AsyncInstrument<u64>| {
        for endpoint in &*channel.published.load().endpoints {
            let id = KeyValue::new("endpoint", endpoint.instance().id.to_string());
            to.observe(endpoint.picks(), &[target.clone(), id]);
        }
    });
    meter
        .u64_observable_counter("balance.endpoint.picks")
        .with_unit("{pick}")
        .with_description("Attempts that each endpoint was given")
        .with_callback(picks)
        .build();
}

/// A channel as its instruments hold it.
struct Observed {
    channel: Weak<Shared>,
    target: KeyValue,
}

impl Observed {
    fn callback<T, R>(
        &self,
        read: R,
    ) -> impl Fn(&dyn AsyncInstrument<T>) + Send + Sync + 'static + use<T, R>
    where
        T: 'static,
        R: Fn(&Shared, &KeyValue, &dyn AsyncInstrument<T>) + Send + Sync + 'static,
    {
        let (channel, target) = (Weak::clone(&self.channel), self.target.clone());
        move |to| {
            if let Some(channel) = channel.upgrade() {
                read(&channel, &target, to);
            }
        }
    }

    fn figure(
        &self,
        figure: Figure,
    ) -> impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static + use<> {
        self.callback(move |channel, target, to| {
            to.observe(figure(channel), std::slice::from_ref(target));
        })
    }
}

fn listed(channel: &Shared) -> usize {
    let published = channel.published.load();
    published.listed.as_ref().map_or(0, Snapshot::len)
}

fn remarked(channel: &Shared, is_so: fn(&super::Remark) -> bool) -> u64 {
    let published = channel.published.load();
    published.remarks.values().filter(|r| is_so(r)).count() as u64
}
