//! The task behind a [`Registration`](super::Registration): brings the registry to where the owner wants it.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until},
};

use super::RegistrationState;
use crate::{
    Backoff, BackoffPolicy, Claim, Hold, HoldRequest, Incarnation, Instance, Loss, Status, Store,
    StoreError, one_line,
};

/// What the owner wants; the keeper brings the registry there.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) instance: Instance,
    pub(super) wanted: bool,
    /// Grows with each change.
    pub(super) version: u64,
}

/// The task behind a [`Registration`]; it ends when that is dropped, deregistered or superseded.
pub(super) struct Keeper {
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
    pub(super) fn new(
        store: Arc<dyn Store>,
        ttl: Duration,
        holder: Incarnation,
        wishes: watch::Receiver<Wish>,
        states: watch::Sender<RegistrationState>,
        settle: watch::Sender<u64>,
    ) -> Self {
        let backoff = Backoff::new(BackoffPolicy {
            initial: Duration::from_millis(50),
            max: (ttl / 3).min(Duration::from_millis(1_500)),
            multiplier: 1.6,
            jitter: 0.2,
        });
        Self {
            store,
            ttl,
            holder,
            wishes,
            states,
            settle,
            backoff,
        }
    }

    pub(super) async fn keep(mut self) -> Result<(), StoreError> {
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
            // Never given up halfway, not even when it is not wanted any more: what has been written is to be removed.
            let cause = match self.store.hold(request).await {
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
