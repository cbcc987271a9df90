//! An endpoint's load as its server reports it out of band (gRFC A51), over one connection after the other.

use std::{convert::Infallible, sync::Arc};

use tokio::time::Instant;

use super::{super::upkeep::Reports, followed::Followed};
use crate::{load::Load, transport::Connection};

pub(super) struct LoadWatch {
    load: Arc<Load>,
    running: Followed<Reports>,
    connected: bool,
}

impl LoadWatch {
    pub(super) fn new(load: Arc<Load>) -> Self {
        Self {
            load,
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
        if connection.is_some() && !self.connected {
            // gRFC A58: what comes to be READY is new, also where its reports come with responses.
            self.load.reported().reconnected();
        }
        self.connected = connection.is_some();
        let load = &self.load;
        self.running
            .follow(reports, connection, |reports, connection| {
                let load = Arc::clone(load);
                async move {
                    let read = |report| {
                        let reported = load.reported();
                        reported.update(&report, reports.error_penalty, Instant::now());
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
