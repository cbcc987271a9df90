//! One connection to one member at a time, the next member on any failure.
//!
//! etcd-client's own way of connecting balances over all endpoints, has no retry and does not notice a dead one; so the
//! channel is made here.

use std::{
    error::Error,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use etcd_client::{Client, ConnectOptions, ResponseHeader};
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::Address;

/// The longest that one request to one member takes.
pub(super) const REQUEST: Duration = Duration::from_secs(3);
/// The longest that the connection below a request takes.
const CONNECT: Duration = Duration::from_secs(2);
/// etcd closes connections that ping more often than every 5 s, or with no stream open.
const PING_EVERY: Duration = Duration::from_secs(6);
const PING_ANSWERED: Duration = Duration::from_secs(3);
/// One watch whose reader is slow must not hold up the keep-alives beside it.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
const STREAM_WINDOW: u32 = 1024 * 1024;
/// How often one call tries, at the fewest and the most: even with one member, the connection may be what has failed.
const TRIES: (usize, usize) = (2, 3);
/// What etcd-client makes of a first keep-alive that is answered with a TTL of 0.
const NO_LEASE: &str = "lease not found";

/// The members of a cluster in random order, and the connection to the one in use.
#[derive(Debug)]
pub(super) struct Members {
    endpoints: Vec<Address>,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    /// How many members were left; modulo their number, the one in use.
    turn: usize,
    channel: Option<Channel>,
}

/// A connection to a member, made when it is first used.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    turn: usize,
    member: Address,
}

/// A request that failed, and at which member.
#[derive(Debug)]
pub(super) struct Failure {
    member: Address,
    cause: FailureCause,
}

#[derive(Debug)]
enum FailureCause {
    Timeout,
    Etcd(etcd_client::Error),
}

impl Members {
    pub(super) fn new(mut endpoints: Vec<Address>) -> Self {
        fastrand::shuffle(&mut endpoints);
        Self {
            endpoints,
            current: Mutex::default(),
        }
    }

    /// The connection in use. Does no I/O.
    pub(super) async fn connection(&self) -> Result<Connection, Failure> {
        let (turn, channel, member) = self.channel();
        let options = ConnectOptions::new().with_require_leader(true);
        // Without credentials this waits for nothing.
        match Client::from_channel(etcd_client::Channel::Tonic(channel), Some(options)).await {
            Ok(client) => Ok(Connection {
                client,
                turn,
                member,
            }),
            Err(error) => Err(Failure {
                member,
                cause: FailureCause::Etcd(error),
            }),
        }
    }

    fn channel(&self) -> (usize, Channel, Address) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let member = &self.endpoints[current.turn % self.endpoints.len()];
        let channel = current
            .channel
            .get_or_insert_with(|| lazily(member))
            .clone();
        (current.turn, channel, member.clone())
    }

    /// Moves on to the next member, unless somebody has since that connection was given.
    pub(super) fn leave(&self, connection: &Connection) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.turn == connection.turn {
            tracing::debug!(member = %connection.member, "leaving an etcd member");
            current.turn += 1;
            current.channel = None;
        }
    }

    /// What `request` does on the connection in use, done again at another member when that fails: only for what may be
    /// done twice.
    pub(super) async fn call<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        request: impl Fn(Connection) -> F,
    ) -> Result<T, Failure> {
        let most = self.endpoints.len().clamp(TRIES.0, TRIES.1);
        let mut tries = 1;
        loop {
            match self.call_once(&request).await {
                Err(failure) if tries < most && failure.is_members() => {
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    /// What `request` does on the connection in use.
    pub(super) async fn call_once<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        request: impl FnOnce(Connection) -> F,
    ) -> Result<T, Failure> {
        let connection = self.connection().await?;
        let result = request(connection.clone()).await;
        if result.as_ref().is_err_and(Failure::is_members) {
            self.leave(&connection);
        }
        result
    }
}

impl Connection {
    /// What a request on this connection gives, within [`REQUEST`].
    pub(super) fn ask<'a, T: 'a>(
        &'a self,
        request: impl Future<Output = Result<T, etcd_client::Error>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Failure>> {
        self.within(REQUEST, request)
    }

    /// What a request on this connection gives, within `bound`. In a box: etcd-client's futures are some 16 KiB.
    pub(super) fn within<'a, T: 'a>(
        &'a self,
        bound: Duration,
        request: impl Future<Output = Result<T, etcd_client::Error>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Failure>> {
        Box::pin(async move {
            match timeout(bound, request).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(self.failure(error)),
                Err(_) => Err(Failure {
                    member: self.member.clone(),
                    cause: FailureCause::Timeout,
                }),
            }
        })
    }

    /// The revision of the store that an answer tells.
    pub(super) fn revision(&self, header: Option<&ResponseHeader>) -> Result<i64, Failure> {
        match header {
            Some(header) => Ok(header.revision()),
            None => Err(self.complaint("an answer has no header")),
        }
    }

    /// That a request on this connection failed.
    pub(super) fn failure(&self, error: etcd_client::Error) -> Failure {
        Failure {
            member: self.member.clone(),
            cause: FailureCause::Etcd(error),
        }
    }

    /// That this connection's member says that there is no such lease.
    pub(super) fn lease_not_found(&self) -> Failure {
        self.failure(etcd_client::Error::LeaseKeepAliveError(NO_LEASE.into()))
    }

    /// That this connection's member said something unexpected.
    pub(super) fn complaint(&self, text: impl Into<String>) -> Failure {
        self.failure(etcd_client::Error::WatchError(text.into()))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

impl Failure {
    /// Whether another member might do better. If not, the request was refused, and nothing was done.
    pub(super) fn is_members(&self) -> bool {
        match &self.cause {
            FailureCause::Etcd(etcd_client::Error::GRpcStatus(status)) => !matches!(
                status.code(),
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::AlreadyExists
                    | Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::FailedPrecondition
                    | Code::OutOfRange
            ),
            FailureCause::Timeout | FailureCause::Etcd(_) => true,
        }
    }

    /// Whether it is certain that nothing was written.
    pub(super) fn wrote_nothing(&self) -> bool {
        // etcd's own reasons (too many requests, no space), or its gRPC server's; an HTTP/2 error has the same code, and
        // may come after the request was taken.
        let is_refused = |text: &str| {
            text.starts_with("etcdserver: ") || text.starts_with("grpc: received message larger")
        };
        !self.is_members()
            || matches!(&self.cause, FailureCause::Etcd(etcd_client::Error::GRpcStatus(status))
                if status.code() == Code::ResourceExhausted && is_refused(status.message()))
    }

    /// Whether an answer was larger than it may be.
    pub(super) fn is_too_large(&self) -> bool {
        // tonic's own; etcd has that code for a revision that is compacted, or yet to come.
        matches!(&self.cause, FailureCause::Etcd(etcd_client::Error::GRpcStatus(status))
            if status.code() == Code::OutOfRange && status.message().contains("length too large"))
    }

    /// Whether etcd said that there is no such lease.
    pub(super) fn is_lease_not_found(&self) -> bool {
        match &self.cause {
            FailureCause::Etcd(etcd_client::Error::GRpcStatus(status)) => {
                status.code() == Code::NotFound
            }
            FailureCause::Etcd(etcd_client::Error::LeaseKeepAliveError(text)) => text == NO_LEASE,
            _ => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd member {}: ", self.member)?;
        match &self.cause {
            FailureCause::Timeout => f.write_str("no answer in time"),
            FailureCause::Etcd(etcd_client::Error::GRpcStatus(status)) => match status.message() {
                "" => status.code().fmt(f),
                message => f.write_str(message),
            },
            FailureCause::Etcd(etcd_client::Error::WatchError(text)) => f.write_str(text),
            FailureCause::Etcd(error) => error.fmt(f),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            FailureCause::Etcd(etcd_client::Error::GRpcStatus(status)) => status.source(),
            FailureCause::Etcd(etcd_client::Error::WatchError(_)) | FailureCause::Timeout => None,
            FailureCause::Etcd(error) => error.source(),
        }
    }
}

fn lazily(member: &Address) -> Channel {
    Endpoint::from_shared(format!("http://{member}"))
        .expect("an address is an authority")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWERED)
        .keep_alive_while_idle(false)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .connect_lazy()
}
