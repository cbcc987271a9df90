//! Whether an address takes connections.

use anyhow::{Context, Result};
use registry::Address;
use tokio::net::{TcpStream, UnixStream};

/// Connects, and closes the connection at once; the caller sets a bound. Cancellation safe.
pub(crate) async fn connect(address: &Address) -> Result<()> {
    let connected = match address.unix_path() {
        Some(path) => UnixStream::connect(path).await.map(drop),
        None => TcpStream::connect(address.as_str()).await.map(drop),
    };
    connected.with_context(|| format!("cannot connect to {address}"))
}
