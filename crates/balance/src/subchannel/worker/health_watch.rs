//! An endpoint's health as its server tells it (gRFC A17), over one of the endpoint's connections after the other.

use std::sync::Arc;

use tokio::{select, sync::watch};

use super::followed::Followed;
use crate::{
    health::{Health, HealthCheck},
    transport::Connection,
};

/// Follows what is asked for, and who is to be asked.
#[derive(Default)]
pub(super) struct HealthWatch {
    verdict: watch::Sender<Option<Health>>,
    running: Followed<HealthCheck>,
}

impl HealthWatch {
    /// What is known; `None` while an endpoint that was just connected has not answered yet. Without a check every endpoint
    /// is well.
    pub(super) fn verdict(&self) -> Option<Health> {
        self.verdict.borrow().clone()
    }

    /// Watches as `check` says over `connection`, without disturbing a watch that does so already.
    ///
    /// What was known before holds until the first answer of another connection, or of another check: otherwise a change
    /// of the service config would keep all calls waiting for a round trip.
    pub(super) fn follow(
        &mut self,
        check: Option<Arc<HealthCheck>>,
        connection: Option<&Arc<Connection>>,
    ) {
        if connection.is_none() {
            self.verdict.send_replace(None);
        } else if check.is_none() {
            self.verdict.send_replace(Some(Health::Serving));
        }
        let verdict = &self.verdict;
        self.running.follow(check, connection, |check, connection| {
            let verdict = verdict.clone();
            async move {
                let tell = |health| {
                    verdict.send_replace(Some(health));
                };
                check.run(&connection, tell).await
            }
        });
    }

    /// Waits until there is news. Cancellation safe.
    pub(super) async fn told(&mut self) {
        let mut told = self.verdict.subscribe();
        select! {
            never = self.running.run() => match never {},
            _news = told.changed() => {}
        }
    }
}
