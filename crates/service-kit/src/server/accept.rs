//! The connections of a listener, as a stream.

use std::{future::ready, io, time::Duration};

use futures_util::{Stream, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tonic::transport::server::TcpIncoming;

use super::{
    admission::{Admission, Admitted},
    connection::{Connection, Lifetime},
};

/// After a failure such as "too many open files", which the next try would only repeat.
const PAUSE: Duration = Duration::from_millis(500);
/// HTTP/2 asks a silent peer whether it is there only once it has said a first word; before that, TCP does.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// Every connection that comes and is let in, to end as `lifetime` says.
pub(super) fn connections(
    listener: TcpListener,
    admission: Admission,
    lifetime: Lifetime,
) -> impl Stream<Item = io::Result<Connection<TcpStream>>> {
    sockets(listener, admission).map(move |accepted| {
        let (socket, place) = accepted?;
        Ok(Connection::new(socket, place, lifetime))
    })
}

/// Each socket with its place among the connections; a failure to accept one is logged and waited out, and ends nothing.
fn sockets(
    listener: TcpListener,
    admission: Admission,
) -> impl Stream<Item = io::Result<(TcpStream, Admitted)>> {
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
