//! The task behind a [`Registration`](super::Registration): brings the registry to where the owner wants it.

use std::{mem, sync::Arc, time::Duration};

use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{RegistrationState, asked::Asked};
use crate::{
    Backoff, BackoffPolicy, Claim, Hold, HoldRequest, Incarnation, Instance, Loss, Revision,
    Status, Store, StoreError, one_line,
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
    asked: Asked,
    ttl: Duration,
    holder: Incarnation,
    wishes: watch::Receiver<Wish>,
    states: watch::Sender<RegistrationState>,
    settle: watch::Sender<u64>,
    backoff: Backoff,
    /// Whether the newest write of what the owner has changed has failed.
    unwritten: bool,
}

/// Why a hold was left.
enum Left {
    Gone { how: String, written: Revision },
    Deleted { how: String, written: Revision },
    Superseded(String),
    Unwanted(Result<(), StoreError>),
}

impl Keeper {
    pub(super) fn new(
        store: Arc<dyn Store>,
        asked: Asked,
        ttl: Duration,
        holder: Incarnation,
        wishes: watch::Receiver<Wish>,
        states: watch::Sender<RegistrationState>,
        settle: watch::Sender<u64>,
    ) -> Self {
        let backoff = Backoff::new(BackoffPolicy {
            initial: Duration::from_millis(50),
            max: (ttl / 3).clamp(Duration::from_millis(100), Duration::from_millis(1_500)),
            multiplier: 1.6,
            jitter: 0.2,
        });
        Self {
            store,
            asked,
            ttl,
            holder,
            wishes,
            states,
            settle,
            backoff,
            unwritten: false,
        }
    }

    /// Holds by that claim until it has succeeded once, and then again whenever the hold is lost.
    pub(super) async fn keep(mut self, mut claim: Claim) -> Result<(), StoreError> {
        loop {
            let wish = self.wishes.borrow_and_update().clone();
            // Never given up halfway, not even when it is not wanted any more: what has been written is to be removed.
            let next = match self.hold(&wish, claim).await {
                Ok(hold) => {
                    self.held(&wish);
                    match self.stay(hold).await {
                        Left::Unwanted(released) => return self.deregistered(released),
                        Left::Superseded(by) => {
                            self.superseded(&by);
                            return Ok(());
                        }
                        Left::Gone { how, written } => {
                            claim = Claim::Again(written);
                            self.lost(&how)
                        }
                        Left::Deleted { how, written } => {
                            claim = Claim::Again(written);
                            if self.is_draining() && !self.is_to_serve_again(&how).await {
                                return self.deregistered(Ok(()));
                            }
                            self.lost(&how)
                        }
                    }
                }
                Err(StoreError::Superseded { holder, .. }) if claim == Claim::IfAbsent => {
                    self.gives_way(&holder);
                    return Ok(());
                }
                Err(StoreError::Superseded { holder, .. }) => {
                    self.superseded(&holder);
                    return Ok(());
                }
                Err(error) => self.failed(&one_line(&error), claim),
            };
            select! {
                () = sleep_until(next) => {}
                () = unwanted(self.wishes.clone()) => {
                    let left = self.left_behind(claim);
                    return self.deregistered(left);
                }
            }
        }
    }

    async fn hold(&mut self, wish: &Wish, claim: Claim) -> Result<Box<dyn Hold>, StoreError> {
        let service = &wish.instance.service;
        self.asked.look(&*self.store, service).await?;
        let request = HoldRequest {
            instance: self.as_written(wish),
            ttl: self.ttl,
            claim,
        };
        self.store.hold(request).await
    }

    /// The instance as the owner wants it, and as it says of itself, with what it is to carry beside that.
    fn as_written(&mut self, wish: &Wish) -> Instance {
        wish.instance.clone().carrying(self.asked.carried())
    }

    /// The instance as the owner wants it now, and no lock on it: who looks twice at the same time waits for ever when the owner
    /// changes it in between.
    fn instance(&self) -> Instance {
        self.wishes.borrow().instance.clone()
    }

    fn is_draining(&self) -> bool {
        self.wishes.borrow().instance.status == Status::Draining
    }

    /// Waits, with nothing in the registry, until the owner wants more than to drain, or to leave.
    async fn is_to_serve_again(&mut self, how: &str) -> bool {
        tracing::info!(
            how,
            "an instance that drains was taken out of the registry, and stays out"
        );
        loop {
            let wish = self.wishes.borrow_and_update().clone();
            if !wish.wanted || wish.instance.status != Status::Draining {
                return wish.wanted;
            }
            self.settle.send_replace(wish.version);
            // An error is the owner's end.
            if self.wishes.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Watches over a hold, and writes what the owner changes and what the instance is to carry, until the hold is lost or
    /// not wanted any more.
    async fn stay(&mut self, mut hold: Box<dyn Hold>) -> Left {
        let mut write_at = None;
        loop {
            if self.wishes.has_changed().is_err() || !self.wishes.borrow().wanted {
                return Left::Unwanted(hold.release().await);
            }
            select! {
                loss = hold.lost() => return match loss {
                    Loss::Superseded(by) => Left::Superseded(by),
                    Loss::Gone(how) => Left::Gone { how, written: hold.written() },
                    Loss::Deleted(how) => Left::Deleted { how, written: hold.written() },
                },
                // An error is the owner's end, which the look above finds.
                _ = self.wishes.changed() => write_at = Some(Instant::now()),
                () = self.asked.changed() => write_at = Some(Instant::now()),
                () = sleep_until(write_at.unwrap_or_else(Instant::now)), if write_at.is_some() => {
                    write_at = self.write(&mut *hold).await;
                }
            }
        }
    }

    /// Writes the wish; when that fails, says when to try again.
    async fn write(&mut self, hold: &mut dyn Hold) -> Option<Instant> {
        let wish = self.wishes.borrow_and_update().clone();
        match hold.update(self.as_written(&wish)).await {
            Ok(()) => {
                self.unwritten = false;
                self.held(&wish);
                None
            }
            Err(error) => {
                let next = Instant::now() + self.backoff.next_delay();
                let error = one_line(&error);
                // Once for each outage, as with a registration that cannot be made.
                if mem::replace(&mut self.unwritten, true) {
                    tracing::debug!(error, "a registration is still not updated");
                } else {
                    tracing::warn!(error, "could not update a registration; trying on");
                }
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
        if !self.states.borrow().is_held() {
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

    /// Records a loss, and says when to hold again: at once, unless that has just been done.
    fn lost(&mut self, how: &str) -> Instant {
        let delay = self.backoff.next_delay();
        let Instance { service, id, .. } = self.instance();
        tracing::warn!(%service, %id, how, "registration lost; registering again");
        self.retrying(0, how);
        let again = self.backoff.failures() > 1;
        Instant::now() + if again { delay } else { Duration::ZERO }
    }

    /// Records a failure, and says when to try again.
    fn failed(&mut self, cause: &str, claim: Claim) -> Instant {
        let delay = self.backoff.next_delay();
        let (Instance { service, id, .. }, registry) = (self.instance(), self.store.url());
        let attempts = match &*self.states.borrow() {
            RegistrationState::Retrying { attempts, .. } => attempts.saturating_add(1),
            _ => 1,
        };
        // Once for each outage; the state tells the rest.
        if attempts == 1 {
            let again = if matches!(claim, Claim::Again(_)) {
                "again"
            } else {
                "yet"
            };
            tracing::warn!(%service, %id, registry, cause, "cannot register {again}; trying on");
        } else {
            tracing::debug!(%service, %id, attempts, cause, "still not registered");
        }
        self.retrying(attempts, cause);
        Instant::now() + delay
    }

    fn retrying(&self, attempts: u32, cause: &str) {
        let since = match &*self.states.borrow() {
            RegistrationState::Retrying { since, .. } => *since,
            _ => Instant::now(),
        };
        let cause = cause.into();
        self.states.send_replace(RegistrationState::Retrying {
            since,
            attempts,
            cause,
        });
        self.settle.send_replace(self.wishes.borrow().version);
    }

    /// What may be left of an instance that was held, and is given up while the registry does not answer.
    fn left_behind(&self, claim: Claim) -> Result<(), StoreError> {
        let RegistrationState::Retrying {
            attempts: 1..,
            cause,
            ..
        } = &*self.states.borrow()
        else {
            return Ok(());
        };
        if !matches!(claim, Claim::Again(_)) {
            return Ok(());
        }
        let Instance { service, id, .. } = self.instance();
        Err(StoreError::ReleaseFailed {
            service,
            id,
            source: (&**cause).into(),
        })
    }

    fn superseded(&self, holder: &str) {
        let Instance { service, id, .. } = self.instance();
        tracing::error!(%service, %id, holder, "a process that was started later has registered under this id; not registering again");
        self.over(holder);
    }

    fn gives_way(&self, holder: &str) {
        let Instance { service, id, .. } = self.instance();
        tracing::info!(%service, %id, holder, "another process has registered under this id; it is left alone");
        self.over(holder);
    }

    /// Records that another process holds the instance's id.
    fn over(&self, holder: &str) {
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

impl Drop for Keeper {
    /// However the task ends, nobody goes on believing that the instance is held.
    fn drop(&mut self) {
        self.states.send_if_modified(|state| {
            let ended = matches!(
                state,
                RegistrationState::Superseded { .. } | RegistrationState::Deregistered
            );
            if !ended {
                *state = RegistrationState::Deregistered;
            }
            !ended
        });
    }
}

/// Waits until the instance is not wanted in the registry any more.
async fn unwanted(mut wishes: watch::Receiver<Wish>) {
    // An error is the owner's end, which means the same.
    let _ = wishes.wait_for(|wish| !wish.wanted).await;
}
