//! From an endpoint's addresses to a connection that has proved to be alive.

use std::io;

use registry::Address;
use tokio::net::TcpStream;

use super::connection::{Connection, Driving};

/// Why no address of an endpoint could be connected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFailed {
    #[error("{address}: cannot connect")]
    Tcp { address: Address, source: io::Error },
    #[error("{address}: no HTTP/2 there")]
    Http2 { address: Address, source: h2::Error },
    #[error("{0}: no answer")]
    TimedOut(Address),
}

impl ConnectFailed {
    pub(crate) fn timed_out(addresses: &[Address]) -> Self {
        Self::TimedOut(addresses[0].clone())
    }
}

/// Connects to the first of `addresses` that answers. Dropping the future leaves nothing behind.
pub(crate) async fn connect(addresses: &[Address]) -> Result<Connection, ConnectFailed> {
    let mut last = None;
    for address in addresses {
        match connect_one(address).await {
            Ok(connection) => return Ok(connection),
            Err(failed) => last = Some(failed),
        }
    }
    Err(last.unwrap_or_else(|| unreachable!("an instance has at least one address")))
}

async fn connect_one(address: &Address) -> Result<Connection, ConnectFailed> {
    let tcp = |source| ConnectFailed::Tcp {
        address: address.clone(),
        source,
    };
    let http2 = |source| ConnectFailed::Http2 {
        address: address.clone(),
        source,
    };
    let socket = match address.socket_addr() {
        Some(socket) => TcpStream::connect(socket).await,
        None => TcpStream::connect((address.host(), address.port())).await,
    }
    .map_err(tcp)?;
    socket.set_nodelay(true).map_err(tcp)?;
    let mut driving = Driving::start(socket, address).await.map_err(http2)?;
    // The handshake returns before the server has said anything, so a hung server looks connected.
    driving.answered().await.map_err(http2)?;
    Ok(driving.into_connection())
}
