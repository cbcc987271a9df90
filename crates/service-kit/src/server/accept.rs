//! The connections of a listener, as a stream.

use std::{convert::Infallible, time::Duration};

use futures_util::{Stream, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// After a failure such as "too many open files", which the next try would only repeat.
const PAUSE: Duration = Duration::from_millis(100);

/// Every connection that comes; a failure to accept one is logged and waited out, and ends nothing.
pub(super) fn connections(
    listener: TcpListener,
) -> impl Stream<Item = Result<TcpStream, Infallible>> {
    stream::unfold(listener, async |listener| {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    // Small messages go out at once; a connection that cannot is dead already.
                    let _ = connection.set_nodelay(true);
                    return Some((Ok(connection), listener));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    sleep(PAUSE).await;
                }
            }
        }
    })
}
