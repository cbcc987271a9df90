//! One endpoint's connections and their connectivity state.
//!
//! ```text
//!            connect()              acknowledged PING
//!  Idle ───────────────▶ Connecting ────────────────▶ Ready
//!   ▲                        │  ▲                      │ sockets closed, or GOAWAY
//!   │                 failed │  │ after the backoff    │
//!   │                        ▼  │                      │
//!   │                TransientFailure                  │
//!   └──────────────── rest() ──────────────────────────┘        any ── shut_down() ──▶ Shutdown
//! ```
//!
//! While an endpoint cannot be connected it stays in `TransientFailure`, through all further tries, until one succeeds
//! (gRFC A62: sticky), so that it does not make calls wait that another endpoint could take or that should fail.

mod changes;
mod worker;

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use arc_swap::ArcSwap;
use registry::{BackoffPolicy, Instance};
use tokio::{runtime::Handle, sync::Notify, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use crate::transport::{ConnectOptions, Connection, Stream};
pub(crate) use changes::Changes;
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

impl fmt::Display for ConnectivityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "IDLE",
            Self::Connecting => "CONNECTING",
            Self::Ready => "READY",
            Self::TransientFailure => "TRANSIENT_FAILURE",
            Self::Shutdown => "SHUTDOWN",
        })
    }
}

/// What all subchannels of a channel have in common.
#[derive(Debug)]
pub(crate) struct SubchannelContext {
    pub(crate) backoff: BackoffPolicy,
    pub(crate) connect: ConnectOptions,
    pub(crate) runtime: Handle,
    pub(crate) changes: Arc<Changes>,
    /// After so many failures in a row the driver is asked whether to eject; 0 is never.
    pub(crate) suspicious_row: AtomicU32,
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

/// One endpoint's connections. It costs a task only from [`connect`](Self::connect) until it is idle again.
#[derive(Debug)]
pub(crate) struct Subchannel {
    instance: Arc<Instance>,
    context: Option<Arc<SubchannelContext>>,
    /// This endpoint's own.
    options: ConnectOptions,
    shared: Arc<Shared>,
    worker: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// What the worker and the calls share.
#[derive(Debug)]
struct Shared {
    state: ArcSwap<SubchannelState>,
    /// Those that take calls; the first is used for as long as it has streams.
    connections: ArcSwap<Vec<Arc<Connection>>>,
    /// To end a backoff.
    retry: Notify,
    /// Counts the workers, so that one that was ended while it ran changes nothing any more.
    turn: Mutex<u64>,
}

impl Subchannel {
    /// Idle. Without a context it cannot be connected.
    pub(crate) fn new(instance: Arc<Instance>, context: Option<Arc<SubchannelContext>>) -> Self {
        let options = context
            .as_ref()
            .map(|context| context.connect.for_endpoint());
        Self {
            instance,
            context,
            options: options.unwrap_or_default(),
            shared: Arc::new(Shared {
                state: ArcSwap::from_pointee(SubchannelState {
                    connectivity: ConnectivityState::Idle,
                    since: Instant::now(),
                    failure: None,
                    unhealthy: None,
                }),
                connections: ArcSwap::default(),
                retry: Notify::new(),
                turn: Mutex::default(),
            }),
            worker: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> Arc<SubchannelState> {
        self.shared.state.load_full()
    }

    /// Whether a connection takes calls, as far as is known.
    pub(crate) fn is_available(&self) -> bool {
        let connections = self.shared.connections.load();
        connections.iter().any(|connection| connection.is_open()) || self.context.is_none()
    }

    /// A free stream on the first connection that has one.
    pub(crate) fn try_stream(&self) -> Option<Stream> {
        let connections = self.shared.connections.load();
        connections
            .iter()
            .filter(|connection| connection.is_open())
            .find_map(Connection::try_stream)
    }

    /// The connection to wait for when no stream is free.
    pub(crate) fn least_used(&self) -> Option<Arc<Connection>> {
        let connections = self.shared.connections.load();
        let open = connections.iter().filter(|c| c.is_open());
        open.max_by_key(|c| c.free_streams()).cloned()
    }

    /// Leaves Idle; nothing in any other state.
    pub(crate) fn connect(&self) {
        let Some(context) = &self.context else { return };
        let mut worker = self.worker();
        if self.shared.state.load().connectivity != ConnectivityState::Idle {
            return;
        }
        let turn = self.shared.begin_turn(ConnectivityState::Connecting);
        let run = Worker::new(
            Arc::clone(&self.instance),
            self.options.clone(),
            Arc::clone(context),
            Arc::clone(&self.shared),
            turn,
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

    /// Makes the driver look at the endpoint.
    pub(crate) fn tell_driver(&self) {
        if let Some(context) = &self.context {
            context.changes.tell(&self.instance.id);
        }
    }

    fn end(&self, state: ConnectivityState) {
        let mut worker = self.worker();
        if self.shared.state.load().connectivity == ConnectivityState::Shutdown {
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

/// A change of a subchannel's state.
struct Transition {
    to: ConnectivityState,
    failure: Option<Arc<str>>,
    unhealthy: Option<Arc<str>>,
    connections: Connections,
}

impl Transition {
    /// To a state without connections.
    fn unconnected(to: ConnectivityState, failure: Option<Arc<str>>) -> Self {
        Self {
            to,
            failure,
            unhealthy: None,
            connections: Arc::default(),
        }
    }
}

type Connections = Arc<Vec<Arc<Connection>>>;

impl Shared {
    /// Ends whatever worker there is, and gives the number of the next.
    fn begin_turn(&self, state: ConnectivityState) -> u64 {
        let mut turn = self.turn();
        *turn += 1;
        self.make(Transition::unconnected(state, None));
        *turn
    }

    /// Makes a transition, if it is still that worker's turn.
    fn transit(&self, worker: u64, transition: Transition) {
        let turn = self.turn();
        if *turn == worker {
            self.make(transition);
        }
    }

    fn make(&self, transition: Transition) {
        self.connections.store(transition.connections);
        let before = self.state.load();
        let mut state = SubchannelState {
            connectivity: transition.to,
            since: before.since,
            failure: transition.failure,
            unhealthy: transition.unhealthy,
        };
        if state != **before {
            if state.connectivity != before.connectivity {
                state.since = Instant::now();
            }
            self.state.store(Arc::new(state));
        }
    }

    fn turn(&self) -> MutexGuard<'_, u64> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
