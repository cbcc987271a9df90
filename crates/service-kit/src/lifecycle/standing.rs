//! How an instance stands: what it reports, and whether that makes it ready.

use std::sync::{Arc, OnceLock};

use registry::RegistrationState;
use tokio::sync::watch;

/// Where in its life an instance is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    /// It listens, and has not been ready yet.
    Starting,
    /// It serves, and is registered or tries to be.
    Serving,
    /// It still serves, and tells callers to go elsewhere.
    Draining,
    /// It takes nothing new and finishes what it has.
    Stopping,
}

impl Phase {
    /// Whether it has been asked to end.
    pub(crate) fn is_ending(self) -> bool {
        matches!(self, Self::Draining | Self::Stopping)
    }
}

/// By which user code reports whether it is ready. Cheap to clone; a service is ready unless told otherwise.
///
/// ```
/// # async fn example(service: service_kit::Service) -> anyhow::Result<()> {
/// let readiness = service.readiness();
/// readiness.not_ready("the cache is empty");
/// tokio::spawn(async move {
///     // ... fill the cache ...
///     readiness.ready();
/// });
/// service.serve().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Readiness(Arc<watch::Sender<Result<(), Arc<str>>>>);

impl Readiness {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Ok(()))))
    }

    /// Ready for calls.
    pub fn ready(&self) {
        self.tell(Ok(()));
    }

    /// Not ready, for this reason: health says `NOT_SERVING`, the registry `not_serving`, and `/readyz` the reason.
    pub fn not_ready(&self, reason: impl Into<Arc<str>>) {
        self.tell(Err(reason.into()));
    }

    fn tell(&self, now: Result<(), Arc<str>>) {
        self.0.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}

/// How an instance stands, for those who look at it while it lives. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    phase: Arc<watch::Sender<Phase>>,
    readiness: Readiness,
    registration: Arc<OnceLock<watch::Receiver<RegistrationState>>>,
}

impl Standing {
    pub(crate) fn new(readiness: Readiness) -> Self {
        Self {
            phase: Arc::new(watch::Sender::new(Phase::Starting)),
            readiness,
            registration: Arc::default(),
        }
    }

    pub(crate) fn readiness(&self) -> watch::Receiver<Result<(), Arc<str>>> {
        self.readiness.0.subscribe()
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Its phases; one is told again when there is a registration.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// The states of its registration; `None` until there is one.
    pub(crate) fn registrations(&self) -> Option<watch::Receiver<RegistrationState>> {
        self.registration.get().cloned()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// From now on `states` tells of the registration; an instance has one in its life.
    pub(super) fn registered(&self, states: watch::Receiver<RegistrationState>) {
        let _ = self.registration.set(states);
        self.phase.send_modify(|_| {});
    }

    /// How the registration stands; `None` until there is one.
    pub(crate) fn registration(&self) -> Option<RegistrationState> {
        let states = self.registration.get()?;
        Some(states.borrow().clone())
    }

    /// Whether it should be given calls, which is what it tells the registry, and why not.
    pub(crate) fn ready(&self) -> Result<(), String> {
        self.readiness
            .0
            .borrow()
            .as_ref()
            .map_err(ToString::to_string)?;
        match *self.phase.borrow() {
            Phase::Serving => {}
            Phase::Starting => return Err("starting".to_owned()),
            Phase::Draining => return Err("draining".to_owned()),
            Phase::Stopping => return Err("stopping".to_owned()),
        }
        let state = self.registration().ok_or("not registered yet")?;
        state.problem().map_or(Ok(()), Err)
    }
}
