//! One endpoint's connections and their connectivity state.
//!
//! ```text
//!            connect()              acknowledged PING
//!  Idle ───────────────▶ Connecting ────────────────▶ Ready ──┐ all connections closed, or GOAWAY
//!   ▲                        │  ▲                      │ ▲    │
//!   │                 failed │  │ after    no PING of  │ │ an │
//!   │                        ▼  │ backoff  any answered▼ │ answer
//!   │                TransientFailure ◀────────────────┘─┘    │
//!   └───────────────────────────────────── or rest() ─────────┘        any ── shut_down() ──▶ Shutdown
//! ```
//!
//! While an endpoint cannot be connected it stays in `TransientFailure`, through all further tries, until one succeeds
//! (gRFC A62: sticky), so that it does not make calls wait that another endpoint could take or that should fail.

mod changes;
mod pool;
mod shared;
mod upkeep;
mod worker;

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use registry::{BackoffPolicy, Instance};
use tokio::{runtime::Handle, sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    endpoint::Endpoint,
    telemetry::Telemetry,
    transport::{Availability, ConnectOptions, Connection, Stream, rpc::Head},
};
pub(crate) use changes::Changes;
use shared::Shared;
pub(crate) use upkeep::{ErrorPenalty, Upkeep, Wanted};
use worker::Worker;

/// gRPC's connectivity states (grpc/grpc `doc/connectivity-semantics-and-api.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectivityState {
    /// Not connected, and not trying: the next call starts it.
    Idle,
    /// Connecting, or waiting to hear where to.
    Connecting,
    /// Calls can be made.
    Ready,
    /// No endpoint can be reached for now; tried again with backoff.
    TransientFailure,
    /// Closed for good.
    Shutdown,
}

impl ConnectivityState {
    /// gRPC's word for it: `TRANSIENT_FAILURE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "IDLE",
            Self::Connecting => "CONNECTING",
            Self::Ready => "READY",
            Self::TransientFailure => "TRANSIENT_FAILURE",
            Self::Shutdown => "SHUTDOWN",
        }
    }
}

impl fmt::Display for ConnectivityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What all subchannels of a channel have in common.
#[derive(Debug)]
pub(crate) struct SubchannelContext {
    pub(crate) backoff: BackoffPolicy,
    pub(crate) connect: ConnectOptions,
    pub(crate) runtime: Handle,
    pub(crate) changes: Arc<Changes>,
    pub(crate) telemetry: Telemetry,
    /// After so many failures in a row the driver is asked whether to eject; 0 is never.
    pub(crate) suspicious_row: AtomicU32,
    /// What the channel's own calls say, whatever their method.
    pub(crate) head: Head,
    /// What is asked of every connected endpoint; set by [`want`](Self::want).
    pub(crate) upkeep: watch::Sender<Upkeep>,
    /// Whether responses have load reports that are to be read; set with it.
    pub(crate) reports_in_trailers: ErrorPenalty,
}

/// How a subchannel stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SubchannelState {
    pub(crate) connectivity: ConnectivityState,
    pub(crate) since: Instant,
    /// Why it fails, when it does.
    pub(crate) failure: Option<Arc<str>>,
    /// Why it should get no calls although it is connected (gRFC A17).
    pub(crate) unhealthy: Option<Arc<str>>,
}

/// One endpoint's connections. It costs a task only from [`connect`](Self::connect) until it is idle again, and little
/// memory before that.
#[derive(Debug)]
pub(crate) struct Subchannel {
    instance: Arc<Instance>,
    context: Option<Arc<SubchannelContext>>,
    /// This endpoint's own, from when it is first connected: one that has asked for calm gets it also after that.
    options: OnceLock<Arc<ConnectOptions>>,
    shared: Arc<Shared>,
    worker: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Subchannel {
    /// Idle. Without a context it cannot be connected.
    pub(crate) fn new(instance: Arc<Instance>, context: Option<Arc<SubchannelContext>>) -> Self {
        Self {
            instance,
            context,
            options: OnceLock::new(),
            shared: Arc::default(),
            worker: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> Arc<SubchannelState> {
        self.shared.state()
    }

    /// Those that take calls.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.shared.pool.connections()
    }

    /// Where its channel's measurements go; `None` where it has no channel.
    pub(crate) fn telemetry(&self) -> Option<&Telemetry> {
        Some(&self.context.as_ref()?.telemetry)
    }

    /// It is this endpoint's, which it tells from now on whether a connection takes calls.
    pub(crate) fn belongs_to(&self, endpoint: &Arc<Endpoint>) {
        self.shared.belongs_to(endpoint);
    }

    /// Whether it has a connection, silent or not.
    pub(crate) fn is_connected(&self) -> bool {
        self.shared.pool.is_connected()
    }

    /// Whether a call may be sent there, for want of something better.
    pub(crate) fn is_usable(&self) -> bool {
        self.shared.pool.is_usable()
    }

    /// A free stream on the first connection that has one; on one that is suspected never.
    pub(crate) fn try_stream(&self) -> Option<Stream> {
        self.shared.pool.try_stream(Availability::Open)
    }

    /// The same on one that is suspected as well, when no other has one.
    pub(crate) fn try_any_stream(&self) -> Option<Stream> {
        let suspected = || self.shared.pool.try_stream(Availability::Suspected);
        self.try_stream().or_else(suspected)
    }

    /// Waits for a stream on whichever connection has one first; `None` when there is none left that a call may be sent
    /// to. Who waits longest is served first, and when there may be another connection, it is opened. Cancellation safe;
    /// it has no bound of its own.
    pub(crate) async fn stream(&self) -> Option<Stream> {
        self.shared.pool.stream().await
    }

    /// Waits until a call may be sent there. Cancellation safe; it has no bound of its own.
    pub(crate) async fn usable_again(&self) {
        self.shared.pool.usable_again().await;
    }

    /// Leaves Idle; nothing in any other state.
    pub(crate) fn connect(&self) {
        let Some(context) = &self.context else { return };
        let mut worker = self.worker();
        if self.shared.state().connectivity != ConnectivityState::Idle {
            return;
        }
        let options = || Arc::new(context.connect.for_endpoint());
        let run = Worker::new(
            Arc::clone(&self.instance),
            Arc::clone(self.options.get_or_init(options)),
            Arc::clone(context),
            Arc::clone(&self.shared),
            self.shared.begin_turn(ConnectivityState::Connecting),
        );
        *worker = Some(AbortOnDropHandle::new(context.runtime.spawn(run.run())));
        context.changes.tell(&self.instance.id);
    }

    /// Goes to Idle: no new call will come; those in flight finish.
    pub(crate) fn rest(&self) {
        self.end(ConnectivityState::Idle);
    }

    /// The same for good.
    pub(crate) fn shut_down(&self) {
        self.end(ConnectivityState::Shutdown);
    }

    /// Ends a backoff at once: the endpoint has given a sign of life.
    pub(crate) fn retry_now(&self) {
        self.shared.retry.notify_one();
    }

    /// How many failures in a row are to be told to the driver.
    pub(crate) fn suspicious_row(&self) -> Option<NonZeroU32> {
        let context = self.context.as_ref()?;
        NonZeroU32::new(context.suspicious_row.load(Ordering::Relaxed))
    }

    /// What an error counts in the load reports that responses have; `None` when nobody wants to read them.
    pub(crate) fn reports_in_trailers(&self) -> Option<f64> {
        self.context.as_ref()?.reports_in_trailers.get()
    }

    /// Makes the driver look at the endpoint.
    pub(crate) fn tell_driver(&self) {
        if let Some(context) = &self.context {
            context.changes.tell(&self.instance.id);
        }
    }

    fn end(&self, state: ConnectivityState) {
        let mut worker = self.worker();
        let before = self.shared.state().connectivity;
        // Who is where it is to be tells nobody: the driver asks for it each time that it plans.
        if before == state || before == ConnectivityState::Shutdown {
            return;
        }
        *worker = None;
        self.shared.begin_turn(state);
        self.tell_driver();
    }

    fn worker(&self) -> MutexGuard<'_, Option<AbortOnDropHandle<()>>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls that still wait for a stream are to go elsewhere.
impl Drop for Subchannel {
    fn drop(&mut self) {
        self.shared.pool.retire();
    }
}
