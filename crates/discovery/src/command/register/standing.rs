//! How the instance stands, for those who look at it meanwhile: the admin page and the metrics.

use std::sync::Arc;

use registry::RegistrationState;
use service_kit::terminal::printable;
use tokio::sync::watch;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Standing(Arc<watch::Sender<Now>>);

#[derive(Debug)]
enum Now {
    /// It is not to be in the registry, and why.
    Out(String),
    /// It is to be there, and this is what has come of that.
    In(watch::Receiver<RegistrationState>),
}

impl Standing {
    pub(super) fn new() -> Self {
        let why = "no check has succeeded yet".to_owned();
        Self(Arc::new(watch::Sender::new(Now::Out(why))))
    }

    /// From now on `states` tell of it.
    pub(super) fn enter(&self, states: watch::Receiver<RegistrationState>) {
        self.0.send_replace(Now::In(states));
    }

    /// From now on it is out.
    pub(super) fn leave(&self, why: &str) {
        self.0.send_replace(Now::Out(printable(why)));
    }

    /// A check has failed: that is why it is out, where it is.
    pub(super) fn fail(&self, cause: &str) {
        self.0.send_if_modified(|now| {
            let is_out = matches!(now, Now::Out(_));
            if is_out {
                *now = Now::Out(printable(cause));
            }
            is_out
        });
    }

    /// How the registration stands; `None` while there is none.
    pub(super) fn registration(&self) -> Option<RegistrationState> {
        match &*self.0.borrow() {
            Now::Out(_) => None,
            Now::In(states) => Some(states.borrow().clone()),
        }
    }

    /// Whether callers are given the instance, and why not.
    pub(super) fn ready(&self) -> Result<(), String> {
        match &*self.0.borrow() {
            Now::Out(why) => Err(format!("not registered: {why}")),
            Now::In(states) => states.borrow().problem().map_or(Ok(()), Err),
        }
    }
}
