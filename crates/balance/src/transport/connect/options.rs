//! How to connect.

use std::time::Duration;

use http::uri::Scheme;

use crate::transport::keep_alive::{KeepAlive, Pace};
#[cfg(feature = "tls")]
use crate::transport::tls::Tls;

/// How to connect to an endpoint, and how its connections are kept. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ConnectOptions {
    /// One try to connect to one address gets this long.
    pub(crate) patience: Duration,
    /// Keep-alive towards this endpoint.
    pub(crate) pace: Pace,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
    /// What calls say in `:scheme`.
    pub(crate) scheme: Scheme,
    /// The most bytes of metadata that a response may have, as HTTP/2 counts them.
    pub(crate) metadata_limit: u32,
    /// What one response may have under way before its reader has taken it.
    pub(crate) stream_window: u32,
    /// What all responses of a connection may have under way.
    pub(crate) connection_window: u32,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            // The least that gRPC allows (grpc/grpc `doc/connection-backoff.md`).
            patience: Duration::from_secs(20),
            pace: Pace::default(),
            #[cfg(feature = "tls")]
            tls: None,
            scheme: Scheme::HTTP,
            metadata_limit: 64 << 10,
            stream_window: 1 << 20,
            // As large as HTTP/2 allows, so that slow readers, each bounded by its own stream's window, never stall the
            // other calls of the connection.
            connection_window: (1 << 31) - 1,
        }
    }
}

impl ConnectOptions {
    pub(crate) fn with_keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.pace = Pace::new(keep_alive);
        self
    }

    pub(crate) fn with_metadata_limit(self, bytes: u32) -> Self {
        Self {
            metadata_limit: bytes,
            ..self
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(self, tls: Tls) -> Self {
        Self {
            tls: Some(tls),
            scheme: Scheme::HTTPS,
            ..self
        }
    }

    /// The same for another endpoint: what one endpoint has asked for does not count for the others.
    pub(crate) fn for_endpoint(&self) -> Self {
        Self {
            pace: self.pace.afresh(),
            ..self.clone()
        }
    }
}
