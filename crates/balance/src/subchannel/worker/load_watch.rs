//! An endpoint's load as its server reports it out of band (gRFC A51), over one connection after the other.

use std::{
    convert::Infallible,
    sync::{Arc, Weak},
};

use tokio::time::Instant;

use super::{super::upkeep::Reports, followed::Followed};
use crate::{endpoint::Endpoint, transport::Connection};

pub(super) struct LoadWatch {
    endpoint: Weak<Endpoint>,
    running: Followed<Reports>,
    connected: bool,
}

impl LoadWatch {
    pub(super) fn new(endpoint: Weak<Endpoint>) -> Self {
        Self {
            endpoint,
            running: Followed::default(),
            connected: false,
        }
    }

    /// Has the server report over `connection`, without disturbing a stream that does so already.
    pub(super) fn follow(
        &mut self,
        reports: Option<Arc<Reports>>,
        connection: Option<&Arc<Connection>>,
    ) {
        if connection.is_some()
            && !self.connected
            && let Some(endpoint) = self.endpoint.upgrade()
        {
            // gRFC A58: what comes to be READY is new, also where its reports come with responses.
            endpoint.record().reported().reconnected();
        }
        self.connected = connection.is_some();
        let endpoint = &self.endpoint;
        self.running
            .follow(reports, connection, |reports, connection| {
                let endpoint = Weak::clone(endpoint);
                async move {
                    let read = |report| {
                        if let Some(endpoint) = endpoint.upgrade() {
                            let reported = endpoint.record().reported();
                            reported.update(&report, reports.error_penalty, Instant::now());
                        }
                    };
                    reports.stream.run(&connection, read).await
                }
            });
    }

    /// Goes on reading. Cancellation safe.
    pub(super) async fn run(&mut self) -> Infallible {
        self.running.run().await
    }
}
