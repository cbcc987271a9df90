//! An instance as the balancer sees it.

use std::{sync::Arc, time::Duration};

use registry::{Instance, Zone};
use tokio::time::Instant;

use crate::{
    load::Load,
    policy::LoadReports,
    subchannel::{Subchannel, SubchannelContext},
};

/// An instance, and what this channel has done with it: its connections, its calls in flight, its latency.
///
/// Another start of the process is another endpoint, with fresh statistics; all else that an instance says of itself may
/// change in place.
#[derive(Debug)]
pub struct Endpoint {
    instance: Arc<Instance>,
    serial: u64,
    load: Arc<Load>,
    subchannel: Arc<Subchannel>,
}

impl Endpoint {
    /// An endpoint of no channel, for tests of a policy: it is never connected, and counts as available.
    pub fn new(instance: impl Into<Arc<Instance>>) -> Self {
        Self::within(instance.into(), None)
    }

    /// An endpoint of the channel that `context` belongs to; idle.
    pub(crate) fn within(instance: Arc<Instance>, context: Option<Arc<SubchannelContext>>) -> Self {
        let load = Arc::<Load>::default();
        let subchannel = Subchannel::new(Arc::clone(&instance), Arc::clone(&load), context);
        Self {
            subchannel: Arc::new(subchannel),
            instance,
            serial: fastrand::u64(..),
            load,
        }
    }

    /// The same endpoint with what its instance says of itself now.
    pub(crate) fn with(&self, instance: Arc<Instance>) -> Self {
        Self {
            instance,
            serial: self.serial,
            load: Arc::clone(&self.load),
            subchannel: Arc::clone(&self.subchannel),
        }
    }

    /// Whether `instance` is this endpoint still.
    pub(crate) fn is_still(&self, instance: &Instance) -> bool {
        let own = &self.instance;
        own.id == instance.id
            && own.incarnation == instance.incarnation
            && own.addresses() == instance.addresses()
    }

    /// The instance, as it says of itself now.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Tells the endpoint from all others of this process; the same for as long as the instance's process lives.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Its share of the calls relative to the others, as the registry says: 1 to 1,000,000.
    pub fn weight(&self) -> u32 {
        self.instance.weight.get()
    }

    /// Where it runs.
    pub fn zone(&self) -> Option<&Zone> {
        self.instance.zone.as_ref()
    }

    /// Calls of this channel that the endpoint has and has not ended.
    pub fn in_flight(&self) -> usize {
        self.load.in_flight()
    }

    /// Attempts that this channel has ever given to the endpoint.
    pub fn picks(&self) -> u64 {
        self.load.picks()
    }

    /// How long its answers take of late, from the request to the end of the response; `None` before the first.
    pub fn latency(&self) -> Option<Duration> {
        self.load.latency()
    }

    /// The same with a preference for bad news: it jumps up at once to a slower answer, and comes down in seconds, by
    /// itself when no answers come.
    pub fn peak_latency(&self) -> Option<Duration> {
        self.load.peak_latency()
    }

    /// What its server's load reports make it weigh, while they count.
    pub(crate) fn load_report_weight(&self, reports: &LoadReports, now: Instant) -> Option<f64> {
        let reported = self.load.reported();
        reported.get(now, reports.blackout, reports.expiration)
    }

    /// Whether a connection of it takes calls now, as far as is known; one atomic load.
    pub fn is_available(&self) -> bool {
        self.subchannel.is_available()
    }

    pub(crate) fn load(&self) -> &Arc<Load> {
        &self.load
    }

    pub(crate) fn subchannel(&self) -> &Arc<Subchannel> {
        &self.subchannel
    }
}
