//! One try to connect to one place.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
    time::{Instant, timeout_at},
};

use registry::Address;

use super::{ConnectOptions, failed::TryFailed, place::Place};
use crate::transport::connection::{Connection, Driving};

/// The places that the name in `address` stands for.
pub(super) async fn look_up(address: Address, patience: Duration) -> Result<Vec<Place>, TryFailed> {
    let bound = Bound::new(&address, patience);
    let host = address.host().unwrap_or_default().to_owned();
    let port = address.port().unwrap_or_default();
    let found = match bound
        .wait("to a look-up", lookup_host((host, port)))
        .await?
    {
        Ok(found) => found,
        Err(source) => return Err(TryFailed::LookUp { address, source }),
    };
    let place = |at| Place {
        address: address.clone(),
        at: Some(at),
    };
    let places: Vec<_> = found.map(place).collect();
    if places.is_empty() {
        return Err(TryFailed::NoAddress(address));
    }
    Ok(places)
}

/// Connects, and waits until the peer has acknowledged a PING.
pub(super) async fn attempt(
    place: Place,
    options: &ConnectOptions,
) -> Result<Connection, TryFailed> {
    let bound = Bound::new(&place, options.patience);
    let failed = |source| TryFailed::Socket {
        place: place.clone(),
        source,
    };
    if let Some(at) = place.at {
        let socket = bound.wait("from the host", TcpStream::connect(at)).await?;
        let socket = socket.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        return secured(socket, &place, &bound, options).await;
    }
    let path = place.address.unix_path().ok_or(io::ErrorKind::InvalidInput);
    let path = path.map_err(|kind| failed(kind.into()))?;
    let socket = bound
        .wait("from the socket", UnixStream::connect(path))
        .await?;
    secured(socket.map_err(failed)?, &place, &bound, options).await
}

/// Over TLS, where it is wanted.
async fn secured<T>(
    socket: T,
    place: &Place,
    bound: &Bound,
    options: &ConnectOptions,
) -> Result<Connection, TryFailed>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    #[cfg(feature = "tls")]
    if let Some(tls) = &options.tls {
        let handshake = bound
            .wait("to a TLS handshake", tls.handshake(socket))
            .await?;
        let socket = handshake.map_err(|source| TryFailed::Tls {
            place: place.clone(),
            source,
        })?;
        return over(socket, place, bound, options).await;
    }
    over(socket, place, bound, options).await
}

async fn over<T>(
    socket: T,
    place: &Place,
    bound: &Bound,
    options: &ConnectOptions,
) -> Result<Connection, TryFailed>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let driving = Driving::start(socket, &bound.place, options);
    let driving = bound.wait("to an HTTP/2 preface", driving).await?;
    let driving = driving.map_err(|source| TryFailed::Http2 {
        place: place.clone(),
        source,
    })?;
    let answered = bound.wait("to a PING", driving.answered()).await?;
    answered.map_err(|source| TryFailed::Unproved {
        place: place.clone(),
        source,
    })
}

/// The end of a try, however far it has come.
struct Bound {
    place: String,
    patience: Duration,
    end: Instant,
}

impl Bound {
    fn new(place: &impl ToString, patience: Duration) -> Self {
        Self {
            place: place.to_string(),
            patience,
            end: Instant::now() + patience,
        }
    }

    async fn wait<T>(
        &self,
        to: &'static str,
        step: impl Future<Output = T>,
    ) -> Result<T, TryFailed> {
        timeout_at(self.end, step)
            .await
            .map_err(|_elapsed| TryFailed::TimedOut {
                place: self.place.clone(),
                to,
                patience: self.patience,
            })
    }
}
