//! An instance as the balancer sees it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use registry::{Instance, Zone};
use tokio::time::Instant;

use crate::{
    load::Load,
    orca::NoWeight,
    policy::LoadReports,
    subchannel::{Subchannel, SubchannelContext},
};

/// An instance, and what this channel has done with it: its connections, its calls in flight, its latency.
///
/// Another start of the process is another endpoint, with fresh statistics; all else that an instance says of itself may
/// change in place.
#[derive(Debug)]
// What a pick looks at comes first and side by side: with ten thousand endpoints, a pick costs its cache misses.
#[repr(C)]
pub struct Endpoint {
    serial: u64,
    is_available: AtomicBool,
    weight: AtomicU32,
    load: Load,
    instance: ArcSwap<Instance>,
    subchannel: Subchannel,
}

impl Endpoint {
    /// An endpoint of no channel, for tests of a policy: it is never connected, and counts as available.
    pub fn new(instance: impl Into<Arc<Instance>>) -> Self {
        let instance = instance.into();
        let subchannel = Subchannel::new(Arc::clone(&instance), None, Weak::new());
        Self::with(instance, subchannel)
    }

    /// An endpoint of the channel that `context` belongs to; idle.
    pub(crate) fn within(instance: Arc<Instance>, context: Arc<SubchannelContext>) -> Arc<Self> {
        Arc::new_cyclic(|this| {
            let own = Weak::clone(this);
            let subchannel = Subchannel::new(Arc::clone(&instance), Some(context), own);
            Self::with(instance, subchannel)
        })
    }

    fn with(instance: Arc<Instance>, subchannel: Subchannel) -> Self {
        Self {
            serial: fastrand::u64(..),
            is_available: AtomicBool::new(subchannel.is_of_no_channel()),
            weight: AtomicU32::new(instance.weight.get()),
            load: Load::default(),
            instance: ArcSwap::new(instance),
            subchannel,
        }
    }

    /// The instance says this of itself now.
    pub(crate) fn now_says(&self, instance: Arc<Instance>) {
        self.weight.store(instance.weight.get(), Ordering::Relaxed);
        self.instance.store(instance);
    }

    /// Whether a connection takes calls now.
    pub(crate) fn now_available(&self, is_available: bool) {
        self.is_available.store(is_available, Ordering::Release);
    }

    /// Whether `instance` is this endpoint still.
    pub(crate) fn is_still(&self, instance: &Instance) -> bool {
        let own = self.instance.load();
        own.id == instance.id
            && own.incarnation == instance.incarnation
            && own.addresses() == instance.addresses()
    }

    /// The instance, as it says of itself now.
    pub fn instance(&self) -> Arc<Instance> {
        self.instance.load_full()
    }

    /// Tells the endpoint from all others of this process; the same for as long as the instance's process lives.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Its share of the calls relative to the others, as the registry says: 1 to 1,000,000.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Where it runs.
    pub fn zone(&self) -> Option<Zone> {
        self.instance.load().zone.clone()
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
    pub(crate) fn load_report_weight(
        &self,
        reports: &LoadReports,
        now: Instant,
    ) -> Result<f64, NoWeight> {
        let reported = self.load.reported();
        reported.get(now, reports.blackout, reports.expiration)
    }

    /// Whether a connection of it takes calls now, as far as is known; one atomic load.
    pub fn is_available(&self) -> bool {
        self.is_available.load(Ordering::Acquire)
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    pub(crate) fn subchannel(&self) -> &Subchannel {
        &self.subchannel
    }
}
