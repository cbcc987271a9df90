//! One instance's life: the one place that decides what its health is and what the registry says of it.
//!
//! ```text
//! Starting ── ready ─▶ Serving ── asked to end ─▶ Draining ── notice over ─▶ Stopping ── last call done ─▶ the end
//!    health: NOT_SERVING       SERVING                 SERVING              NOT_SERVING
//!  registry: nothing           registered              draining             deregistered, GOAWAY
//! ```
//!
//! While it serves, user code may report that it is not ready: health and registry follow.

mod standing;

use std::{convert::Infallible, time::Duration};

use anyhow::{Context, bail};
use futures_util::{Stream, StreamExt};
use registry::{Instance, Registration, RegistrationState, Registry, Status};
use tokio::{
    select,
    sync::watch,
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

pub use standing::Readiness;
pub(crate) use standing::{Phase, Standing};

use crate::{health::Health, server::Calls};

/// How long a registry that must be there may take at the start.
const REQUIRED_WITHIN: Duration = Duration::from_secs(10);
/// How long the registry may take to delete the keys: without it they go when their lease does.
const DEREGISTER_WITHIN: Duration = Duration::from_secs(5);
/// What telemetry may take after all else, with something to spare.
const FLUSHED_WITHIN: Duration = Duration::from_secs(5);
/// What calls that were cut off may take to be told so, and their connections to end.
pub(crate) const CUT_OFF_WITHIN: Duration = Duration::from_secs(2);
/// What the last answers may take to leave, and calls to come that were sent before GOAWAY was seen.
const LINGER: Duration = Duration::from_secs(1);

/// What an instance lives by.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    pub(crate) registry: Registry,
    pub(crate) instance: Instance,
    pub(crate) ttl: Duration,
    pub(crate) require_registry: bool,
    pub(crate) drain_notice: Duration,
    pub(crate) drain_limit: Duration,
    /// What the process takes after that.
    pub(crate) closes_within: Duration,
    pub(crate) health: Health,
    pub(crate) standing: Standing,
    pub(crate) calls: Calls,
}

/// The server whose life it is: a task that ends soon after `stop`, when its last call has.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
    pub(crate) stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lifecycle {
    /// How long an end in order may take, at most, to the end of the process.
    pub(crate) fn ends_within(&self) -> Duration {
        let calls = self.drain_notice + DEREGISTER_WITHIN + self.drain_limit + CUT_OFF_WITHIN;
        calls + self.closes_within + FLUSHED_WITHIN
    }

    /// Lives until `asked` to end, and ends in order; asked again, at once and with an error.
    pub(crate) async fn run(
        self,
        mut server: Server,
        mut asked: impl Stream<Item = &'static str> + Unpin,
    ) -> anyhow::Result<()> {
        let mut registration = None;
        select! {
            outcome = self.stay(&mut registration) => match outcome? {},
            outcome = &mut server.task => {
                flatten(outcome)?;
                bail!("the gRPC server has ended by itself");
            }
            Some(by) = asked.next() => tracing::info!(by, in_flight = self.calls.in_flight(), "draining"),
        }
        let calls = self.calls.clone();
        select! {
            () = self.leave(registration, server) => Ok(()),
            Some(by) = asked.next() => bail!("a second {by}: ended at once, with {} calls cut off", calls.in_flight()),
        }
    }

    /// Registers when ready, and from then on keeps health and registry to what user code reports.
    async fn stay(&self, registration: &mut Option<Registration>) -> anyhow::Result<Infallible> {
        let mut readiness = self.standing.readiness();
        // The sender lives in `self`: an error cannot be.
        let _ = readiness.wait_for(Result::is_ok).await;
        self.health.set(true).await;
        self.standing.enter(Phase::Serving);
        let registration =
            &*registration.insert(self.registry.register(self.instance.clone(), self.ttl));
        self.standing.registered(registration.states());
        if self.require_registry {
            held(registration.states(), self.registry.url()).await?;
        }
        loop {
            if readiness.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let ready = readiness.borrow_and_update().is_ok();
            tracing::info!(ready, "readiness has changed");
            self.health.set(ready).await;
            let status = if ready {
                Status::Serving
            } else {
                Status::NotServing
            };
            registration
                .update(|instance| instance.with_status(status))
                .await;
        }
    }

    /// Tells callers, waits until they know, lets go of the registry, and finishes what is in flight.
    async fn leave(&self, registration: Option<Registration>, mut server: Server) {
        self.standing.enter(Phase::Draining);
        if let Some(registration) = &registration {
            self.give_notice(registration).await;
        }
        self.health.set(false).await;
        self.standing.enter(Phase::Stopping);
        if let Some(registration) = registration {
            deregister(registration).await;
        }
        server.stop.cancel();
        self.health.clone().end().await;
        if let Ok(ended) = timeout(self.drain_limit, self.last_call(&mut server)).await {
            log_end(ended);
        } else {
            self.cut_off(&mut server).await;
        }
    }

    /// Ends what has not ended in time: each call is told so by its status.
    async fn cut_off(&self, server: &mut Server) {
        let (in_flight, limit) = (self.calls.in_flight(), self.drain_limit);
        tracing::warn!(
            in_flight,
            ?limit,
            "calls that have not ended in time are ended with UNAVAILABLE"
        );
        self.calls.cut_off(limit);
        if let Ok(ended) = timeout(CUT_OFF_WITHIN, self.last_call(server)).await {
            log_end(ended);
        } else {
            tracing::warn!(
                in_flight = self.calls.in_flight(),
                "callers that read nothing could not be told; their connections are closed"
            );
        }
    }

    /// Waits until the server has ended, or has had no call for a moment: a connection that never says a word would
    /// keep it waiting.
    async fn last_call(&self, server: &mut Server) -> anyhow::Result<()> {
        loop {
            select! {
                ended = &mut server.task => return flatten(ended),
                () = self.calls.idle() => {}
            }
            if let Ok(ended) = timeout(LINGER, &mut server.task).await {
                return flatten(ended);
            }
            if self.calls.in_flight() == 0 {
                return Ok(());
            }
        }
    }

    /// Nobody is given notice by an instance that the registry does not show: there it cannot be marked either.
    async fn give_notice(&self, registration: &Registration) {
        if !matches!(registration.state(), RegistrationState::Held { .. }) {
            return;
        }
        let over = Instant::now() + self.drain_notice;
        select! {
            () = registration.drain() => sleep_until(over).await,
            () = sleep_until(over) => tracing::warn!("the registry did not take the draining status in time"),
        }
    }
}

/// Waits until a registry that must be there has taken the instance.
async fn held(mut states: watch::Receiver<RegistrationState>, url: &str) -> anyhow::Result<()> {
    let held = |state: &RegistrationState| matches!(state, RegistrationState::Held { .. });
    if let Ok(Ok(_)) = timeout(REQUIRED_WITHIN, states.wait_for(held)).await {
        return Ok(());
    }
    let why = states.borrow().problem().unwrap_or_default();
    bail!(
        "cannot register at {url} within {REQUIRED_WITHIN:?}, and the registry is required: {why}"
    )
}

/// The registration says itself what goes wrong.
async fn deregister(registration: Registration) {
    if timeout(DEREGISTER_WITHIN, registration.deregister())
        .await
        .is_err()
    {
        tracing::warn!(
            "the registry did not answer in time; the instance goes when its lease does"
        );
    }
}

fn flatten(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Result<()> {
    ended.context("the gRPC server has panicked")?
}

fn log_end(ended: anyhow::Result<()>) {
    match ended {
        Ok(()) => tracing::info!("stopped; no call is left"),
        Err(error) => tracing::error!(
            error = registry::one_line(error.as_ref()),
            "the server has failed"
        ),
    }
}
