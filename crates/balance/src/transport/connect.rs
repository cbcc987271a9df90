//! From an endpoint's addresses to a connection that has proved to be alive.

mod options;

use std::io;

use registry::Address;
use tokio::{net::TcpStream, time::timeout};

pub(crate) use options::ConnectOptions;

use super::connection::{Connection, Driving, Unproved};

/// Why no address of an endpoint could be connected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFailed {
    #[error("{address}: cannot connect")]
    Tcp { address: Address, source: io::Error },
    #[error("{address}: no HTTP/2 there")]
    Http2 { address: Address, source: h2::Error },
    #[error("{address}: no answer over HTTP/2")]
    Unproved { address: Address, source: Unproved },
    #[error("{0}: no answer")]
    TimedOut(Address),
}

/// Connects to the first of `addresses` that answers within the options' patience. Dropping the future leaves nothing behind.
pub(crate) async fn connect(
    addresses: &[Address],
    options: &ConnectOptions,
) -> Result<Connection, ConnectFailed> {
    let mut last = None;
    for address in addresses {
        match timeout(options.patience, connect_one(address, options)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(failed)) => last = Some(failed),
            Err(_elapsed) => last = Some(ConnectFailed::TimedOut(address.clone())),
        }
    }
    Err(last.expect("an instance has at least one address"))
}

async fn connect_one(
    address: &Address,
    options: &ConnectOptions,
) -> Result<Connection, ConnectFailed> {
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
    let driving = Driving::start(socket, address.as_str(), options)
        .await
        .map_err(http2)?;
    driving
        .answered()
        .await
        .map_err(|source| ConnectFailed::Unproved {
            address: address.clone(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::{Address, ConnectFailed, ConnectOptions, connect};

    #[tokio::test]
    async fn an_address_that_hangs_is_left_for_the_next_and_the_failure_names_the_last() {
        let hung = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addresses =
            [&hung, &closed].map(|listener| Address::from(listener.local_addr().expect("bound")));
        drop(closed);
        let options = ConnectOptions {
            patience: Duration::from_millis(50),
            ..ConnectOptions::default()
        };
        let failed = connect(&addresses, &options)
            .await
            .expect_err("nobody answers");
        assert!(
            matches!(&failed, ConnectFailed::Tcp { address, .. } if *address == addresses[1]),
            "{failed}"
        );
        let failed = connect(&addresses[..1], &options)
            .await
            .expect_err("nobody answers");
        assert!(
            matches!(&failed, ConnectFailed::TimedOut(address) if *address == addresses[0]),
            "{failed}"
        );
    }
}
