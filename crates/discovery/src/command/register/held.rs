//! The registration, while there is to be one.

use std::{future::pending, mem, time::Duration};

use anyhow::{Result, anyhow};
use registry::{Instance, Registration, RegistrationState, one_line};
use service_kit::terminal::printable;
use tokio::time::{sleep, timeout};

use super::{health::Turn, say, standing::Standing};
use crate::session::Session;

/// An instance that is in the registry while it is healthy.
pub(super) struct Held<'a> {
    session: &'a Session,
    /// As it is registered; it has an incarnation from its first registration on.
    instance: Instance,
    ttl: Duration,
    registration: Option<Registration>,
    standing: Standing,
    /// Whether it was said that this registration is held.
    is_told: bool,
    /// Whether it has ever been in the registry, for all that is known.
    was_in: bool,
    /// Why it is not in the registry, or may still be there.
    failure: Option<String>,
}

impl<'a> Held<'a> {
    /// The registry's own `ttl` is for who has none.
    pub(super) fn new(
        session: &'a Session,
        instance: Instance,
        ttl: Option<Duration>,
        standing: Standing,
    ) -> Self {
        Self {
            session,
            instance,
            ttl: ttl.unwrap_or(session.ttl),
            registration: None,
            standing,
            is_told: false,
            was_in: false,
            failure: None,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.instance.service, self.instance.id)
    }

    pub(super) async fn follow(&mut self, turn: Turn) {
        match turn {
            Turn::Healthy => self.enter(),
            Turn::NotYet(cause) => {
                let cause = printable(&cause);
                say(&format!("{} is not registered yet: {cause}", self.name()));
            }
            Turn::Unhealthy(cause) => {
                // Checks wait meanwhile, so not for longer than for any answer.
                let _ = timeout(self.session.patience, self.leave(&cause)).await;
            }
        }
    }

    /// The first time as any process that starts, which takes the place of an earlier one. Back in health it takes nobody's:
    /// whoever has come meanwhile is the later process.
    fn enter(&mut self) {
        let (registry, instance) = (&self.session.registry, self.instance.clone());
        let registration = if self.was_in {
            registry.register_if_absent(instance, self.ttl)
        } else {
            registry.register(instance, self.ttl)
        };
        self.instance = registration.instance();
        self.standing.enter(registration.states());
        self.registration = Some(registration);
        self.is_told = false;
    }

    /// Takes the instance out, if it is in; that this fails is told, since its lease ends anyway. Where it is cut off it has failed.
    pub(super) async fn leave(&mut self, why: &str) {
        let is_ours = |one: &mut Registration| !is_superseded(&one.state());
        let Some(registration) = self.registration.take_if(is_ours) else {
            return;
        };
        self.standing.leave(why);
        self.failure = Some("the registry has not answered in time".to_owned());
        // An attempt that is under way may have written it, whether or not it is waited for.
        let was_in = mem::replace(&mut self.was_in, true);
        let state = self.settled(&registration).await;
        let was_in = was_in || state.is_held();
        self.was_in = was_in || is_under_way(&state);
        let left = registration.deregister().await;
        if left.is_ok() {
            self.was_in = was_in;
        }
        self.failure = match (left, state) {
            (Err(error), _) => Some(one_line(&error)),
            (Ok(()), RegistrationState::Retrying { cause, .. }) if !self.was_in => {
                Some(cause.to_string())
            }
            (Ok(()), _) => None,
        };
        if self.was_in {
            match &self.failure {
                None => say(&format!("{} is taken out: {}", self.name(), printable(why))),
                Some(cause) => say(&format!("{} is left to its lease: {cause}", self.name())),
            }
        }
    }

    /// How the registration stands once an attempt that is under way is over: what it has written may be seen already.
    async fn settled(&self, registration: &Registration) -> RegistrationState {
        let mut states = registration.states();
        let settled = states.wait_for(|state| !is_under_way(state));
        // Whether or not the registry answers.
        let _ = timeout(self.session.patience, settled).await;
        registration.state()
    }

    /// Whether it was in the registry while it was healthy, and is not any more.
    ///
    /// # Errors
    /// When it never was, or may be there still; of one that has never been healthy `unhealthy` says why.
    pub(super) fn outcome(&self, unhealthy: Option<&str>) -> Result<()> {
        let (name, url) = (self.name(), self.session.registry.url());
        let cause = self.failure.as_deref();
        match (self.was_in, cause) {
            (true, None) => Ok(()),
            (true, Some(cause)) => Err(anyhow!(
                "{name} may be in {url} until its lease ends: {cause}"
            )),
            (false, cause) => {
                let cause = cause.or(unhealthy).unwrap_or("there was no time for it");
                Err(anyhow!(
                    "{name} was never registered in {url}: {}",
                    printable(cause)
                ))
            }
        }
    }

    /// Tells callers to go elsewhere, and gives them the time. Cancellation safe.
    pub(super) async fn drain(&self, notice: Duration) {
        let Some(registration) = &self.registration else {
            return;
        };
        if !self.settled(registration).await.is_held() {
            return;
        }
        // Whether or not the registry can be reached.
        let _ = timeout(self.session.patience, registration.drain()).await;
        sleep(notice).await;
    }

    /// Says when it is registered, and waits until a later process has registered the instance: which one. Cancellation safe.
    pub(super) async fn followed(&mut self) -> String {
        let Some(registration) = &self.registration else {
            return pending().await;
        };
        let mut states = registration.states();
        if !self.is_told {
            let known = states.wait_for(|state| state.is_held() || is_superseded(state));
            if known.await.is_ok_and(|state| state.is_held()) {
                let url = self.session.registry.url();
                say(&format!("{} is registered in {url}", self.name()));
                self.was_in = true;
            }
            self.is_told = true;
        }
        match states.wait_for(is_superseded).await.as_deref() {
            Ok(RegistrationState::Superseded { holder }) => holder.to_string(),
            _ => pending().await,
        }
    }
}

/// Whether the first attempt is not over.
fn is_under_way(state: &RegistrationState) -> bool {
    matches!(state, RegistrationState::Retrying { attempts: 0, .. })
}

fn is_superseded(state: &RegistrationState) -> bool {
    matches!(state, RegistrationState::Superseded { .. })
}
