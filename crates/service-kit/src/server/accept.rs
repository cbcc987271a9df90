//! The connections of a listener, as a stream.

use std::{io, time::Duration};

use futures_util::{Stream, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tonic::transport::server::TcpIncoming;

/// After a failure such as "too many open files", which the next try would only repeat.
const PAUSE: Duration = Duration::from_millis(500);
/// HTTP/2 asks a silent peer whether it is there only once it has said a first word; before that, TCP does.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// Every connection that comes; a failure to accept one is logged and waited out, and ends nothing.
pub(super) fn connections(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
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
}
