//! Holding instances in the registry for others, who may be there themselves.

use std::io::{self, Write};

use anyhow::{Result, bail};
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use registry::{Registration, RegistrationState};
use tokio::{sync::watch, time::timeout};

use crate::{session::Session, words::count};

/// Whether it is held, and not left to somebody else, as soon as that is known. Cancellation safe.
///
/// # Errors
/// When the registry cannot be asked for as long as it may take.
pub(crate) async fn is_held(session: &Session, registration: &Registration) -> Result<bool> {
    let mut states = registration.states();
    let settled = states.wait_for(|state| state.is_held() || is_superseded(state));
    match timeout(session.patience, settled).await {
        Ok(settled) => Ok(settled.is_ok_and(|state| state.is_held())),
        Err(_) => match registration.state() {
            RegistrationState::Retrying { cause, .. } => {
                let (name, url) = (name(registration), session.registry.url());
                bail!("cannot register {name} in {url}: {cause}")
            }
            _ => session.no_answer(),
        },
    }
}

/// Whether each is held, here or by whoever it is left to; else how many are not.
pub(crate) fn ready(held: &[watch::Receiver<RegistrationState>]) -> Result<(), String> {
    let is_held = |state: &RegistrationState| state.is_held() || is_superseded(state);
    let missing = held.iter().filter(|state| !is_held(&state.borrow()));
    match missing.count() {
        0 => Ok(()),
        missing => Err(format!(
            "{missing} of {} not held",
            count(held.len(), "instance")
        )),
    }
}

/// Tells on stderr of each that somebody else has registered it, who holds it from then on, until none is left. Cancellation
/// safe.
pub(crate) async fn taken_over(held: &[Registration]) {
    let each = held.iter().map(async |registration| {
        let mut states = registration.states();
        // An error is its end, which is not before ours.
        let _ = states.wait_for(is_superseded).await;
        name(registration)
    });
    let mut taken: FuturesUnordered<_> = each.collect();
    while let Some(name) = taken.next().await {
        let left = taken.len();
        // A stderr that is closed is no reason to end.
        let _ = writeln!(
            io::stderr(),
            "{name} is registered by another process, to which it is left; {left} still held"
        );
    }
}

/// Takes all of them out, at the same time; the first error of those that could not be.
pub(crate) async fn leave(held: Vec<Registration>) -> Result<()> {
    let left = join_all(held.into_iter().map(Registration::deregister)).await;
    let left: Result<Vec<()>, _> = left.into_iter().collect();
    Ok(left.map(drop)?)
}

fn name(registration: &Registration) -> String {
    let one = registration.instance();
    format!("{}/{}", one.service, one.id)
}

fn is_superseded(state: &RegistrationState) -> bool {
    matches!(state, RegistrationState::Superseded { .. })
}
