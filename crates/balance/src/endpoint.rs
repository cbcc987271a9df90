//! An instance as the balancer sees it.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use opentelemetry::KeyValue;
use registry::{Instance, Zone};
use tokio::time::Instant;

use crate::{
    load::{Load, Record},
    orca::NoWeight,
    policy::LoadReports,
    subchannel::{Subchannel, SubchannelContext},
};

/// An instance, and what this channel has done with it: its connections, its calls in flight, its latency.
///
/// Another start of the process is another endpoint, with fresh statistics; all else that an instance says of itself may
/// change in place.
///
/// It holds what a pick looks at, and the way to all else: a pick among ten thousand costs its cache misses.
#[derive(Debug)]
// In this order: what a pick touches fits into one line of a cache.
#[repr(C)]
pub struct Endpoint {
    load: Load,
    weight: AtomicU32,
    is_available: AtomicBool,
    rest: Box<Rest>,
    serial: u64,
}

/// What only its calls and the driver look at.
#[derive(Debug)]
struct Rest {
    record: Record,
    instance: ArcSwap<Instance>,
    subchannel: Subchannel,
    /// What never changes of it, for whoever tells of it often.
    attributes: OnceLock<Box<[KeyValue]>>,
}

impl Endpoint {
    /// An endpoint of no channel, for tests of a policy: it is never connected, and counts as available.
    pub fn new(instance: impl Into<Arc<Instance>>) -> Self {
        let endpoint = Self::of(instance.into(), None);
        endpoint.now_available(true);
        endpoint
    }

    /// Endpoints of the channel that `context` belongs to; idle.
    ///
    /// What picks look at is allocated last and at a stretch, so that ten thousand endpoints are on a few hundred pages.
    pub(crate) fn within(
        context: &Arc<SubchannelContext>,
        instances: impl IntoIterator<Item = Arc<Instance>>,
    ) -> Vec<Arc<Self>> {
        let endpoint = |instance| Self::of(instance, Some(Arc::clone(context)));
        let endpoints: Vec<Self> = instances.into_iter().map(endpoint).collect();
        let endpoints: Vec<_> = endpoints.into_iter().map(Arc::new).collect();
        for endpoint in &endpoints {
            endpoint.subchannel().belongs_to(endpoint);
        }
        endpoints
    }

    fn of(instance: Arc<Instance>, context: Option<Arc<SubchannelContext>>) -> Self {
        Self {
            load: Load::default(),
            weight: AtomicU32::new(instance.weight.get()),
            is_available: AtomicBool::new(false),
            rest: Box::new(Rest {
                record: Record::default(),
                subchannel: Subchannel::new(Arc::clone(&instance), context),
                instance: ArcSwap::new(instance),
                attributes: OnceLock::new(),
            }),
            serial: fastrand::u64(..),
        }
    }

    /// The instance says this of itself now.
    pub(crate) fn now_says(&self, instance: Arc<Instance>) {
        self.weight.store(instance.weight.get(), Ordering::Relaxed);
        self.rest.instance.store(instance);
    }

    /// Whether a connection takes calls now.
    pub(crate) fn now_available(&self, is_available: bool) {
        self.is_available.store(is_available, Ordering::Release);
    }

    /// Whether `instance` is this endpoint still.
    pub(crate) fn is_still(&self, instance: &Instance) -> bool {
        let own = self.rest.instance.load();
        own.id == instance.id
            && own.incarnation == instance.incarnation
            && own.addresses() == instance.addresses()
    }

    /// The instance, as it says of itself now.
    pub fn instance(&self) -> Arc<Instance> {
        self.rest.instance.load_full()
    }

    /// What spans say of it; `make` is asked once, and says nothing that may change while the endpoint is the same.
    pub(crate) fn attributes(
        &self,
        make: impl FnOnce(&Instance) -> Box<[KeyValue]>,
    ) -> &[KeyValue] {
        let attributes = &self.rest.attributes;
        attributes.get_or_init(|| make(&self.instance()))
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
        self.rest.instance.load().zone.clone()
    }

    /// Calls of this channel that the endpoint has and has not ended.
    pub fn in_flight(&self) -> usize {
        self.load.in_flight()
    }

    /// Attempts that this channel has ever given to the endpoint.
    pub fn picks(&self) -> u64 {
        self.load.picks()
    }

    /// The same in about the last ten seconds.
    pub(crate) fn recent_picks(&self) -> u64 {
        self.record().recent(self.picks())
    }

    /// Ten seconds are over, of those in which picks are recent.
    pub(crate) fn turn(&self, now: Instant) {
        self.record().turn(self.picks(), now);
    }

    /// How long its answers take of late, from the request to the end of the response; `None` before the first.
    pub fn latency(&self) -> Option<Duration> {
        self.rest.record.latency()
    }

    /// The same with a preference for bad news: it jumps up at once to a slower answer, and comes down in seconds, by
    /// itself when no answers come.
    pub fn peak_latency(&self) -> Option<Duration> {
        self.peak_latency_at(Instant::now())
    }

    /// The same, by a clock that has been read.
    pub(crate) fn peak_latency_at(&self, now: Instant) -> Option<Duration> {
        self.rest.record.peak_latency(now)
    }

    /// What its server's load reports make it weigh, while they count.
    pub(crate) fn load_report_weight(
        &self,
        reports: &LoadReports,
        now: Instant,
    ) -> Result<f64, NoWeight> {
        let reported = self.record().reported();
        reported.get(now, reports.blackout, reports.expiration)
    }

    /// Whether a connection of it takes calls now, as far as is known; one atomic load.
    pub fn is_available(&self) -> bool {
        self.is_available.load(Ordering::Acquire)
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    pub(crate) fn record(&self) -> &Record {
        &self.rest.record
    }

    pub(crate) fn subchannel(&self) -> &Subchannel {
        &self.rest.subchannel
    }
}
