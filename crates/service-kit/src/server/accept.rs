//! The connections of a listener, as a stream.

use std::{future::ready, io, time::Duration};

use futures_util::{Stream, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::TcpIncoming;

use super::{
    admission::{Admission, Admitted},
    connection::{Connection, Lifetime},
    tls::{Acceptor, Secured},
};

/// After a failure such as "too many open files", which the next try would only repeat.
const PAUSE: Duration = Duration::from_millis(500);
/// HTTP/2 asks a silent peer whether it is there only once it has said a first word; before that, TCP does.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// A connection that is to be served, in the making.
type Accepted<T> = io::Result<(T, Admitted)>;

/// A connection on each socket, to end as `lifetime` says.
pub(super) fn connections(
    sockets: impl Stream<Item = Accepted<TcpStream>>,
    lifetime: Lifetime,
) -> impl Stream<Item = io::Result<Connection<TcpStream>>> {
    sockets.map(move |accepted| {
        let (socket, place) = accepted?;
        Ok(Connection::new(socket, place, lifetime))
    })
}

/// The same behind TLS. Handshakes are made side by side, each in a task and in the time that `lifetime` has for one; there may
/// be as many as there may be connections, so that those that hang hold up nobody. One that fails is logged, counted and ends
/// nothing.
pub(super) fn secured(
    sockets: impl Stream<Item = Accepted<TcpStream>>,
    lifetime: Lifetime,
    acceptor: Acceptor,
    most: usize,
) -> impl Stream<Item = io::Result<Connection<Secured>>> {
    let handshakes = sockets.map(move |accepted| {
        let acceptor = acceptor.clone();
        let handshake = async move {
            let (socket, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => return Some(Err(error)),
            };
            let until = Instant::now() + lifetime.handshake;
            match timeout_at(until, acceptor.accept(socket)).await {
                Ok(Ok(secured)) => {
                    // One time for both: TLS, and the first words of HTTP/2.
                    let handshake = until.saturating_duration_since(Instant::now());
                    let left = Lifetime {
                        handshake,
                        ..lifetime
                    };
                    Some(Ok(Connection::new(secured, place, left)))
                }
                Ok(Err(why)) => {
                    place.insecure(&why);
                    None
                }
                Err(_) => {
                    place.too_slow();
                    None
                }
            }
        };
        AbortOnDropHandle::new(tokio::spawn(handshake))
    });
    // A task that panics has made no connection.
    let made = handshakes.buffer_unordered(most);
    made.filter_map(async |made| made.ok().flatten())
}

/// Each socket with its place among the connections; a failure to accept one is logged and waited out, and ends nothing.
pub(super) fn sockets(
    listener: TcpListener,
    admission: Admission,
) -> impl Stream<Item = Accepted<TcpStream>> {
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(KEEP_ALIVE))
        .then(async |accepted| {
            if let Err(error) = &accepted {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                sleep(PAUSE).await;
            }
            accepted
        })
        .filter_map(move |accepted| {
            let admitted = accepted.map(|socket| {
                // Who has no address any more has gone away already.
                let peer = socket.peer_addr().ok()?;
                let place = admission.admit(peer.ip())?;
                Some((socket, place))
            });
            ready(admitted.transpose())
        })
}
