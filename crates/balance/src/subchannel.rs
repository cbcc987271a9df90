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

mod worker;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use registry::{Address, BackoffPolicy};
use tokio::{runtime::Handle, sync::Notify, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use crate::transport::{ConnectOptions, Connection, Stream};
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
    /// The driver's: something has changed.
    pub(crate) changed: Arc<Notify>,
}

/// How a subchannel stands.
#[derive(Debug, Clone)]
pub(crate) struct SubchannelState {
    pub(crate) connectivity: ConnectivityState,
    pub(crate) since: Instant,
    /// Why it fails, when it does.
    pub(crate) failure: Option<Arc<str>>,
}

/// One endpoint's connections. It costs a task only from [`connect`](Self::connect) until it is idle again.
#[derive(Debug)]
pub(crate) struct Subchannel {
    addresses: Arc<[Address]>,
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
    pub(crate) fn new(addresses: Arc<[Address]>, context: Option<Arc<SubchannelContext>>) -> Self {
        let options = context
            .as_ref()
            .map(|context| context.connect.for_endpoint());
        Self {
            addresses,
            context,
            options: options.unwrap_or_default(),
            shared: Arc::new(Shared {
                state: ArcSwap::from_pointee(SubchannelState {
                    connectivity: ConnectivityState::Idle,
                    since: Instant::now(),
                    failure: None,
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
        let turn = self
            .shared
            .begin_turn(ConnectivityState::Connecting, Arc::default());
        let run = Worker::new(
            Arc::clone(&self.addresses),
            self.options.clone(),
            Arc::clone(context),
            Arc::clone(&self.shared),
            turn,
        );
        *worker = Some(AbortOnDropHandle::new(context.runtime.spawn(run.run())));
        context.changed.notify_one();
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

    fn end(&self, state: ConnectivityState) {
        let mut worker = self.worker();
        if self.shared.state.load().connectivity == ConnectivityState::Shutdown {
            return;
        }
        *worker = None;
        self.shared.begin_turn(state, Arc::default());
        if let Some(context) = &self.context {
            context.changed.notify_one();
        }
    }

    fn worker(&self) -> MutexGuard<'_, Option<AbortOnDropHandle<()>>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change of a subchannel's state.
struct Transition {
    to: ConnectivityState,
    failure: Option<Arc<str>>,
    connections: Connections,
}

type Connections = Arc<Vec<Arc<Connection>>>;

impl Shared {
    /// Ends whatever worker there is, and gives the number of the next.
    fn begin_turn(&self, state: ConnectivityState, connections: Connections) -> u64 {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn += 1;
        self.make(Transition {
            to: state,
            failure: None,
            connections,
        });
        *turn
    }

    /// Makes a transition, if it is still that worker's turn.
    fn transit(&self, worker: u64, transition: Transition) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if *turn == worker {
            self.make(transition);
        }
    }

    fn make(
        &self,
        Transition {
            to,
            failure,
            connections,
        }: Transition,
    ) {
        self.connections.store(connections);
        let before = self.state.load();
        if before.connectivity != to || before.failure != failure {
            self.state.store(Arc::new(SubchannelState {
                connectivity: to,
                since: Instant::now(),
                failure,
            }));
        }
    }
}
