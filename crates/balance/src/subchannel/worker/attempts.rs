//! Attempts to connect an endpoint: one at a time, all under one backoff (gRFC A105).
//!
//! A connection that has served no call and ends before a failure's wait would have is a failure as well, or a server that
//! greets and hangs up would be connected without a pause. The first such end is forgiven: a server may have just been told
//! to go.

use std::{future::pending, pin::Pin, sync::Arc};

use registry::{Backoff, Instance};
use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::transport::{ConnectFailed, ConnectOptions, Connection, connect};

pub(super) struct Attempts {
    instance: Arc<Instance>,
    options: Arc<ConnectOptions>,
    backoff: Backoff,
    now: Now,
}

enum Now {
    Resting,
    Trying {
        since: Instant,
        attempt: Pin<Box<dyn Future<Output = Result<Connection, ConnectFailed>> + Send>>,
    },
    Waiting {
        until: Instant,
    },
}

/// What came of an attempt, or of the wait after it.
pub(super) enum Ended {
    Connected {
        connection: Connection,
        since: Instant,
    },
    /// And why; the wait begins.
    Failed(Arc<str>),
    /// There may be another attempt.
    Waited,
}

impl Attempts {
    pub(super) fn new(
        instance: Arc<Instance>,
        options: Arc<ConnectOptions>,
        backoff: Backoff,
    ) -> Self {
        Self {
            instance,
            options,
            backoff,
            now: Now::Resting,
        }
    }

    /// Whether nothing is under way, and no wait keeps an attempt from beginning.
    pub(super) fn are_resting(&self) -> bool {
        matches!(self.now, Now::Resting)
    }

    /// Begins an attempt, unless there is one already, or a wait.
    pub(super) fn begin(&mut self) {
        if !self.are_resting() {
            return;
        }
        let (instance, options) = (Arc::clone(&self.instance), Arc::clone(&self.options));
        self.now = Now::Trying {
            since: Instant::now(),
            attempt: Box::pin(async move { connect(instance.addresses(), &options).await }),
        };
    }

    /// Waits for what comes of the attempt, or for the end of the wait, which `retry` ends at once; for ever when there is
    /// neither. Cancellation safe.
    pub(super) async fn ended(&mut self, retry: &Notify) -> Ended {
        match &mut self.now {
            Now::Resting => pending().await,
            Now::Trying { since, attempt } => {
                let (since, tried) = (*since, attempt.await);
                self.tried(since, tried)
            }
            Now::Waiting { until } => {
                select! {
                    () = sleep_until(*until) => {}
                    () = retry.notified() => self.backoff.reset(),
                }
                self.now = Now::Resting;
                Ended::Waited
            }
        }
    }

    /// A connection has ended that was begun at `since`, and that has served calls or none. Whether there is a wait for it.
    pub(super) fn lost(&mut self, since: Instant, served: bool) -> bool {
        let is_first = self.backoff.failures() == 0;
        let until = since + self.backoff.next_delay();
        if served || until <= Instant::now() {
            self.backoff.reset();
        } else if !is_first && self.are_resting() {
            self.now = Now::Waiting { until };
            return true;
        }
        false
    }

    /// What is to be remembered for later attempts.
    pub(super) fn backoff(&self) -> Option<Backoff> {
        Some(self.backoff.clone()).filter(|backoff| backoff.failures() > 0)
    }

    fn tried(&mut self, since: Instant, tried: Result<Connection, ConnectFailed>) -> Ended {
        match tried {
            Ok(connection) => {
                self.now = Now::Resting;
                Ended::Connected { connection, since }
            }
            Err(failed) => {
                let cause = registry::one_line(&failed);
                tracing::debug!(cause, "could not connect");
                self.now = Now::Waiting {
                    until: since + self.backoff.next_delay(),
                };
                Ended::Failed(cause.into())
            }
        }
    }
}
