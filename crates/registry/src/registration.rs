//! A live instance's hold on the registry, put back whenever it is lost. Written once, over any [`Store`].
//!
//! ```text
//!              ┌──────────────── lost ───────────────┐
//!              ▼                                     │
//! start ─▶ Retrying ──────────── held ─────────▶ Held / Draining ── deregister ─▶ Deregistered
//!              │                                     │
//!              └──▶ Superseded ◀── a later process ──┘
//! ```

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Backoff, BackoffPolicy, Claim, Hold, HoldRequest, Incarnation, Instance, Loss, Status, Store,
    StoreError, one_line,
};

/// How a registration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrationState {
    /// Callers can see the instance.
    Held {
        /// The incarnation that holds it: ours.
        holder: Incarnation,
        /// Since when.
        since: Instant,
    },
    /// The instance is not in the registry, or not known to be, and is being put there.
    Retrying {
        /// Since when.
        since: Instant,
        /// How many tries have failed since then.
        attempts: u32,
        /// Why the last one failed, or why the hold was lost.
        cause: Arc<str>,
    },
    /// The instance is in the registry, and says there that it wants nothing new.
    Draining,
    /// A process that was started later holds the instance's id; this registration has ended.
    Superseded {
        /// Who, as far as the registry tells.
        holder: Arc<str>,
    },
    /// Given up, as asked; this registration has ended.
    Deregistered,
}

/// A live instance's hold on a registry: held again, for ever, whenever it is lost.
///
/// Made by [`Registry::register`](crate::Registry::register). Dropping it gives the place up as well as that can be
/// done in the background; only [`deregister`](Self::deregister) is certain.
#[derive(Debug)]
pub struct Registration {
    wish: watch::Sender<Wish>,
    state: watch::Receiver<RegistrationState>,
    settled: watch::Receiver<u64>,
    keeper: JoinHandle<Result<(), StoreError>>,
}

/// What the owner wants; the keeper brings the registry there.
#[derive(Debug, Clone)]
struct Wish {
    instance: Instance,
    wanted: bool,
    /// Grows with each change.
    version: u64,
}

impl Registration {
    /// Longest time that [`deregister`](Self::deregister) takes.
    pub const DEREGISTER_BOUND: Duration = Duration::from_secs(10);

    pub(crate) fn start(store: Arc<dyn Store>, instance: Instance, ttl: Duration) -> Self {
        let holder = instance.incarnation.unwrap_or_else(Incarnation::random);
        let instance = instance.with_incarnation(holder);
        let starting = RegistrationState::Retrying {
            since: Instant::now(),
            attempts: 0,
            cause: "starting".into(),
        };
        let (wish, wishes) = watch::channel(Wish {
            instance,
            wanted: true,
            version: 0,
        });
        let (states, state) = watch::channel(starting);
        let (settle, settled) = watch::channel(0);
        let backoff = Backoff::new(BackoffPolicy {
            initial: Duration::from_millis(50),
            max: (ttl / 3).min(Duration::from_millis(1_500)),
            multiplier: 1.6,
            jitter: 0.2,
        });
        let keeper = Keeper {
            store,
            ttl,
            holder,
            wishes,
            states,
            settle,
            backoff,
        };
        Self {
            wish,
            state,
            settled,
            keeper: tokio::spawn(keeper.keep()),
        }
    }

    /// The instance as its owner wants it to be seen.
    pub fn instance(&self) -> Instance {
        self.wish.borrow().instance.clone()
    }

    /// How the registration stands now.
    pub fn state(&self) -> RegistrationState {
        self.state.borrow().clone()
    }

    /// Follows how the registration stands.
    pub fn states(&self) -> watch::Receiver<RegistrationState> {
        self.state.clone()
    }

    /// Changes what callers see (weight, zone, version, labels, status), in place and without a moment of absence.
    ///
    /// Returns when it is written, or at once when there is no hold: then the next hold has it. Service, id and
    /// incarnation stay what they are. Cancellation safe: the change is made all the same.
    pub async fn update(&self, change: impl FnOnce(Instance) -> Instance + Send) {
        let mut version = 0;
        self.wish.send_modify(|wish| {
            let before = wish.instance.clone();
            wish.instance = Instance {
                service: before.service.clone(),
                id: before.id.clone(),
                incarnation: before.incarnation,
                ..change(before)
            };
            wish.version += 1;
            version = wish.version;
        });
        // An error means that the keeper has ended: nothing is left to wait for.
        let _ = self
            .settled
            .clone()
            .wait_for(|settled| *settled >= version)
            .await;
    }

    /// Says in the registry that the instance is to be given nothing new. Like [`update`](Self::update).
    pub async fn drain(&self) {
        self.update(|instance| instance.with_status(Status::Draining))
            .await;
    }

    /// Takes the instance out of the registry and ends.
    ///
    /// Fails when the registry cannot be reached within [`DEREGISTER_BOUND`](Self::DEREGISTER_BOUND); the instance then
    /// goes when its lease does.
    pub async fn deregister(self) -> Result<(), StoreError> {
        let Self {
            wish, mut keeper, ..
        } = self;
        let Instance { service, id, .. } = wish.borrow().instance.clone();
        wish.send_modify(|wish| wish.wanted = false);
        let failed = |source| StoreError::ReleaseFailed {
            service,
            id,
            source,
        };
        match timeout(Self::DEREGISTER_BOUND, &mut keeper).await {
            Ok(Ok(released)) => released,
            Ok(Err(panicked)) => Err(failed(panicked.into())),
            Err(elapsed) => {
                keeper.abort();
                Err(failed(elapsed.into()))
            }
        }
    }
}

/// The task behind a [`Registration`]; it ends when that is dropped, deregistered or superseded.
struct Keeper {
    store: Arc<dyn Store>,
    ttl: Duration,
    holder: Incarnation,
    wishes: watch::Receiver<Wish>,
    states: watch::Sender<RegistrationState>,
    settle: watch::Sender<u64>,
    backoff: Backoff,
}

/// Why a hold was left.
enum Left {
    Lost(Loss),
    Unwanted(Result<(), StoreError>),
}

impl Keeper {
    async fn keep(mut self) -> Result<(), StoreError> {
        let mut claim = Claim::First;
        loop {
            let wish = self.wishes.borrow_and_update().clone();
            if !wish.wanted {
                return self.deregistered(Ok(()));
            }
            let request = HoldRequest {
                instance: wish.instance.clone(),
                ttl: self.ttl,
                claim,
            };
            let outcome = select! {
                outcome = self.store.hold(request) => outcome,
                () = unwanted(self.wishes.clone()) => return self.deregistered(Ok(())),
            };
            let cause = match outcome {
                Ok(hold) => {
                    claim = Claim::Again;
                    self.held(&wish);
                    match self.stay(hold).await {
                        Left::Unwanted(released) => return self.deregistered(released),
                        Left::Lost(Loss::Superseded(by)) => {
                            self.superseded(&by);
                            return Ok(());
                        }
                        Left::Lost(Loss::Gone(how)) => how,
                    }
                }
                Err(StoreError::Superseded { holder, .. }) => {
                    self.superseded(&holder);
                    return Ok(());
                }
                Err(error) => one_line(&error),
            };
            let next = self.retrying(&cause, claim);
            select! {
                () = sleep_until(next) => {}
                () = unwanted(self.wishes.clone()) => return self.deregistered(Ok(())),
            }
        }
    }

    /// Watches over a hold, and writes what the owner changes, until the hold is lost or not wanted any more.
    async fn stay(&mut self, mut hold: Box<dyn Hold>) -> Left {
        let mut write_at = None;
        loop {
            select! {
                loss = hold.lost() => return Left::Lost(loss),
                changed = self.wishes.changed() => {
                    if changed.is_err() || !self.wishes.borrow().wanted {
                        return Left::Unwanted(hold.release().await);
                    }
                    write_at = Some(Instant::now());
                }
                () = sleep_until(write_at.unwrap_or_else(Instant::now)), if write_at.is_some() => {
                    write_at = self.write(&mut *hold).await;
                }
            }
        }
    }

    /// Writes the wish; when that fails, says when to try again.
    async fn write(&mut self, hold: &mut dyn Hold) -> Option<Instant> {
        let wish = self.wishes.borrow_and_update().clone();
        match hold.update(wish.instance.clone()).await {
            Ok(()) => {
                self.held(&wish);
                None
            }
            Err(error) => {
                let next = Instant::now() + self.backoff.next_delay();
                tracing::warn!(
                    error = one_line(&error),
                    "could not update a registration; trying again"
                );
                self.settle.send_replace(wish.version);
                Some(next)
            }
        }
    }

    fn held(&self, wish: &Wish) {
        let Instance {
            service,
            id,
            status,
            ..
        } = &wish.instance;
        let was_held = matches!(
            *self.states.borrow(),
            RegistrationState::Held { .. } | RegistrationState::Draining
        );
        if !was_held {
            tracing::info!(%service, %id, registry = self.store.url(), "registered");
        }
        self.states.send_if_modified(|state| {
            let since = match state {
                RegistrationState::Held { since, .. } => *since,
                _ => Instant::now(),
            };
            let now = match status {
                Status::Draining => RegistrationState::Draining,
                Status::Serving | Status::NotServing => RegistrationState::Held {
                    holder: self.holder,
                    since,
                },
            };
            let changed = *state != now;
            *state = now;
            changed
        });
        self.settle.send_replace(wish.version);
    }

    /// Records a failure, and says when to try again.
    fn retrying(&mut self, cause: &str, claim: Claim) -> Instant {
        let delay = self.backoff.next_delay();
        let wish = self.wishes.borrow();
        let (service, id) = (&wish.instance.service, &wish.instance.id);
        let (since, attempts) = match &*self.states.borrow() {
            RegistrationState::Retrying {
                since, attempts, ..
            } => (*since, attempts.saturating_add(1)),
            _ => (Instant::now(), 0),
        };
        // Once for each outage; the state tells the rest.
        match attempts {
            0 => tracing::warn!(%service, %id, cause, "registration lost; registering again"),
            1 if claim == Claim::First => {
                tracing::warn!(%service, %id, registry = self.store.url(), cause, "cannot register yet; trying on");
            }
            _ => tracing::debug!(%service, %id, attempts, cause, "still not registered"),
        }
        self.states.send_replace(RegistrationState::Retrying {
            since,
            attempts,
            cause: cause.into(),
        });
        self.settle.send_replace(wish.version);
        Instant::now() + delay
    }

    fn superseded(&self, holder: &str) {
        let wish = self.wishes.borrow();
        let (service, id) = (&wish.instance.service, &wish.instance.id);
        tracing::error!(%service, %id, holder, "a process that was started later has registered under this id; not registering again");
        self.states.send_replace(RegistrationState::Superseded {
            holder: holder.into(),
        });
    }

    fn deregistered(&self, released: Result<(), StoreError>) -> Result<(), StoreError> {
        if let Err(error) = &released {
            tracing::warn!(
                error = one_line(error),
                "could not deregister; the instance goes when its lease does"
            );
        }
        self.states.send_replace(RegistrationState::Deregistered);
        released
    }
}

/// Waits until the instance is not wanted in the registry any more.
async fn unwanted(mut wishes: watch::Receiver<Wish>) {
    // An error is the owner's end, which means the same.
    let _ = wishes.wait_for(|wish| !wish.wanted).await;
}
