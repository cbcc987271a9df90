//! The task that keeps an endpoint connected, from the first wish to connect until it is idle again.

use std::sync::Arc;

use registry::{Backoff, Instance};
use tokio::{
    select,
    time::{Instant, sleep_until},
};

use super::{ConnectivityState, Shared, SubchannelContext, Transition};
use crate::transport::{ConnectOptions, Connection, connect};

pub(super) struct Worker {
    instance: Arc<Instance>,
    options: ConnectOptions,
    context: Arc<SubchannelContext>,
    shared: Arc<Shared>,
    backoff: Backoff,
    turn: u64,
}

impl Worker {
    pub(super) fn new(
        instance: Arc<Instance>,
        options: ConnectOptions,
        context: Arc<SubchannelContext>,
        shared: Arc<Shared>,
        turn: u64,
    ) -> Self {
        Self {
            instance,
            options,
            backoff: Backoff::new(context.backoff),
            context,
            shared,
            turn,
        }
    }

    pub(super) async fn run(mut self) {
        let connection = self.connected().await;
        self.transit(Transition {
            to: ConnectivityState::Ready,
            failure: None,
            unhealthy: None,
            connections: Arc::new(vec![Arc::clone(&connection)]),
        });
        connection.closed().await;
        self.transit(Transition::unconnected(ConnectivityState::Idle, None));
    }

    /// Tries until there is a connection.
    async fn connected(&mut self) -> Arc<Connection> {
        loop {
            let started = Instant::now();
            let failed = match connect(self.instance.addresses(), &self.options).await {
                Ok(connection) => return Arc::new(connection),
                Err(failed) => registry::one_line(&failed),
            };
            let next = started + self.backoff.next_delay();
            tracing::debug!(cause = failed, "could not connect");
            self.transit(Transition::unconnected(
                ConnectivityState::TransientFailure,
                Some(failed.into()),
            ));
            select! {
                () = sleep_until(next) => {}
                () = self.shared.retry.notified() => self.backoff.reset(),
            }
        }
    }

    fn transit(&self, transition: Transition) {
        self.shared.transit(self.turn, transition);
        self.context.changes.tell(&self.instance.id);
    }
}
