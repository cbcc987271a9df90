//! The right to one stream of a connection, until the call on it ends.

use std::sync::Arc;

use bytes::Bytes;
use h2::{SendStream, client::ResponseFuture};

use super::{
    connection::{Connection, StreamSlot},
    metadata,
};
use crate::status::Status;

/// The right to one stream. Not `Clone`: it is given back once.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Arc<Connection>,
    slot: StreamSlot,
}

/// Why a stream was not opened.
pub(crate) enum NotOpened {
    /// The connection takes no more; what was to be sent has not left.
    ConnectionClosed,
    /// The connection takes more, but not this one at this moment; it has not left.
    HeldBack,
    /// The request is none that HTTP/2 can carry.
    BadRequest(h2::Error),
}

impl Stream {
    pub(super) fn new(connection: Arc<Connection>, slot: StreamSlot) -> Self {
        Self { connection, slot }
    }

    /// Its place among the connection's streams, for somebody who may have the stream for longer.
    pub(super) fn share_slot(&mut self) -> StreamSlot {
        self.slot.share()
    }

    /// The connection that it is on.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Why the server would refuse that request, where it has more metadata than the server says that it takes. Some servers
    /// close the connection for that, with all of its calls.
    pub(crate) fn refuse(&self, request: &http::Request<()>) -> Option<Status> {
        let limit = self.connection.server_metadata_limit()?;
        metadata::refuse_request(self.connection.peer(), request, limit)
    }

    /// Opens it: sends the request's head.
    #[inline]
    pub(crate) fn open(
        &self,
        request: http::Request<()>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), NotOpened> {
        self.connection.open(request)
    }
}
