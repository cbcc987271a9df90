//! From an endpoint's addresses to a connection that has proved to be alive.

use std::{io, time::Duration};

use registry::Address;
use tokio::{net::TcpStream, time::timeout};

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

/// Connects to the first of `addresses` that answers within `patience`. Dropping the future leaves nothing behind.
pub(crate) async fn connect(
    addresses: &[Address],
    patience: Duration,
) -> Result<Connection, ConnectFailed> {
    let mut last = None;
    for address in addresses {
        match timeout(patience, connect_one(address)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(failed)) => last = Some(failed),
            Err(_elapsed) => last = Some(ConnectFailed::TimedOut(address.clone())),
        }
    }
    Err(last.expect("an instance has at least one address"))
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::{Address, ConnectFailed, Duration, connect};

    #[tokio::test]
    async fn an_address_that_hangs_is_left_for_the_next_and_the_failure_names_the_last() {
        let hung = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addresses =
            [&hung, &closed].map(|listener| Address::from(listener.local_addr().expect("bound")));
        drop(closed);
        let failed = connect(&addresses, Duration::from_millis(50))
            .await
            .expect_err("nobody answers");
        assert!(
            matches!(&failed, ConnectFailed::Tcp { address, .. } if *address == addresses[1]),
            "{failed}"
        );
        let failed = connect(&addresses[..1], Duration::from_millis(50))
            .await
            .expect_err("nobody answers");
        assert!(
            matches!(&failed, ConnectFailed::TimedOut(address) if *address == addresses[0]),
            "{failed}"
        );
    }
}
