//! Messages that are longer than any may be, sent to their end whatever is said of them.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use futures_util::future::try_join_all;
use h2::{SendStream, client::ResponseFuture};
use tokio::{net::TcpStream, task::JoinSet};

use super::{
    AlmostWhole,
    almost_whole::{handshake, is_exhausted, request, send},
};

/// Enough that the server cannot reset them all at once ([`AlmostWhole::MESSAGE`] and a byte each, 132 MiB in all).
const CALLS: usize = 33;
const MESSAGE: usize = AlmostWhole::MESSAGE + 1;

/// Makes the calls on one connection, and comes back with how many there were once each has been refused for its length.
///
/// Fails when the connection is ended, or a call ends otherwise.
pub(super) async fn try_on(server: SocketAddr) -> io::Result<usize> {
    let (mut requests, connection) = handshake(TcpStream::connect(server).await?).await?;
    let mut connections = JoinSet::new();
    // How it has ended is told to its calls.
    connections.spawn(async { drop(connection.await) });
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        requests = requests.ready().await.map_err(io::Error::other)?;
        let made = requests.send_request(request(), false);
        let (response, body) = made.map_err(io::Error::other)?;
        calls.push(refused(response, body));
    }
    Ok(try_join_all(calls).await?.len())
}

async fn refused(response: ResponseFuture, mut body: SendStream<Bytes>) -> io::Result<()> {
    // A caller who is told to stop stops; that it was told is what the answer says.
    let _ = send(&mut body, MESSAGE, &[], MESSAGE).await;
    is_exhausted(&response.await.map_err(io::Error::other)?)
}
