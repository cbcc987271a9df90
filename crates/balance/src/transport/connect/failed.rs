//! Why there is no connection.

use std::{fmt, io, time::Duration};

use registry::{Address, one_line};

use super::place::Place;
use crate::transport::connection::Unproved;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsFailed;

/// Why no address of an endpoint could be connected: what came of each try, in the order in which they failed.
#[derive(Debug)]
pub(crate) struct ConnectFailed(pub(super) Vec<TryFailed>);

impl fmt::Display for ConnectFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, failed) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{}", one_line(failed))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConnectFailed {}

/// What came of one try, and at which step.
#[derive(Debug, thiserror::Error)]
pub(super) enum TryFailed {
    #[error("{address}: the name cannot be looked up")]
    LookUp { address: Address, source: io::Error },
    #[error("{0}: the name has no address")]
    NoAddress(Address),
    #[error("{place}: cannot connect")]
    Socket { place: Place, source: io::Error },
    #[cfg(feature = "tls")]
    #[error("{place}: no TLS connection")]
    Tls { place: Place, source: TlsFailed },
    #[error("{place}: no HTTP/2 there")]
    Http2 { place: Place, source: h2::Error },
    #[error("{place}: no HTTP/2 answer")]
    Unproved { place: Place, source: Unproved },
    #[error("{place}: no answer {to} within {patience:?}")]
    TimedOut {
        place: String,
        to: &'static str,
        patience: Duration,
    },
}
