//! One endpoint's connection and its connectivity state.
//!
//! ```text
//!            connect()              acknowledged PING
//!  Idle ───────────────▶ Connecting ────────────────▶ Ready
//!   ▲                        │  ▲                      │ socket closed, or GOAWAY
//!   │                 failed │  │ after the backoff    │
//!   │                        ▼  │                      │
//!   │                TransientFailure                  │
//!   └──────────────── rest() ──────────────────────────┘
//! ```
//!
//! While an endpoint cannot be connected it stays in `TransientFailure`, through all further tries, until one succeeds
//! (gRFC A62: sticky), so that it does not make calls wait that another endpoint could take or that should fail.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use registry::{Address, Backoff, BackoffPolicy};
use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use crate::transport::{Connection, connect};

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
}

impl fmt::Display for ConnectivityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "IDLE",
            Self::Connecting => "CONNECTING",
            Self::Ready => "READY",
            Self::TransientFailure => "TRANSIENT_FAILURE",
        })
    }
}

/// A subchannel's state, with what belongs to it.
#[derive(Debug, Clone)]
pub(crate) enum SubchannelState {
    Idle,
    Connecting,
    Ready(Arc<Connection>),
    TransientFailure(Arc<str>),
}

impl SubchannelState {
    pub(crate) fn connectivity(&self) -> ConnectivityState {
        match self {
            Self::Idle => ConnectivityState::Idle,
            Self::Connecting => ConnectivityState::Connecting,
            Self::Ready(_) => ConnectivityState::Ready,
            Self::TransientFailure(_) => ConnectivityState::TransientFailure,
        }
    }
}

/// One endpoint's connection, kept by a task that ends when this is dropped. Calls in flight then end by themselves.
#[derive(Debug)]
pub(crate) struct Subchannel {
    shared: Arc<Shared>,
    _worker: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: ArcSwap<(SubchannelState, Instant)>,
    connect: Notify,
    rest: Notify,
    retry: Notify,
    /// The driver's: something has changed.
    changed: Arc<Notify>,
}

impl Subchannel {
    /// One try to connect to one address gets this long, the least that gRPC allows (grpc/grpc `doc/connection-backoff.md`).
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

    pub(crate) fn start(
        addresses: Arc<[Address]>,
        backoff: BackoffPolicy,
        changed: Arc<Notify>,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: ArcSwap::from_pointee((SubchannelState::Idle, Instant::now())),
            connect: Notify::new(),
            rest: Notify::new(),
            retry: Notify::new(),
            changed,
        });
        let worker = Worker {
            addresses,
            backoff: Backoff::new(backoff),
            shared: Arc::clone(&shared),
        };
        Self {
            shared,
            _worker: AbortOnDropHandle::new(tokio::spawn(worker.run())),
        }
    }

    /// The state, and since when.
    pub(crate) fn state(&self) -> (SubchannelState, Instant) {
        (**self.shared.state.load()).clone()
    }

    /// Leaves Idle.
    pub(crate) fn connect(&self) {
        self.shared.connect.notify_one();
    }

    /// Goes to Idle: no new call will come; those in flight finish.
    pub(crate) fn rest(&self) {
        self.shared.rest.notify_one();
    }

    /// Ends a backoff at once: the endpoint has given a sign of life.
    pub(crate) fn retry_now(&self) {
        self.shared.retry.notify_one();
    }
}

struct Worker {
    addresses: Arc<[Address]>,
    backoff: Backoff,
    shared: Arc<Shared>,
}

impl Worker {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            shared.connect.notified().await;
            self.to(SubchannelState::Connecting);
            let connection = select! {
                connection = self.connected() => connection,
                () = shared.rest.notified() => {
                    self.to(SubchannelState::Idle);
                    continue;
                }
            };
            self.to(SubchannelState::Ready(Arc::clone(&connection)));
            select! {
                () = connection.closed() => {}
                () = shared.rest.notified() => {}
            }
            self.to(SubchannelState::Idle);
        }
    }

    /// Tries until there is a connection.
    async fn connected(&mut self) -> Arc<Connection> {
        loop {
            let started = Instant::now();
            let failed = match connect(&self.addresses, Subchannel::CONNECT_TIMEOUT).await {
                Ok(connection) => {
                    self.backoff.reset();
                    return Arc::new(connection);
                }
                Err(failed) => failed,
            };
            let next = started + self.backoff.next_delay();
            tracing::debug!(cause = registry::one_line(&failed), "could not connect");
            self.to(SubchannelState::TransientFailure(
                registry::one_line(&failed).into(),
            ));
            select! {
                () = sleep_until(next) => {}
                () = self.shared.retry.notified() => self.backoff.reset(),
            }
        }
    }

    fn to(&self, state: SubchannelState) {
        self.shared.state.store(Arc::new((state, Instant::now())));
        self.shared.changed.notify_one();
    }
}
