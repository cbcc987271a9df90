//! Registering for somebody else: whom not to push out, and how to leave.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use futures_util::future::join_all;
use registry::{Instance, Registration, RegistrationState};
use tokio::time::timeout;

use crate::session::Session;

/// Those of the instances that nobody has registered: to register another again would push out its own process.
pub(crate) async fn absent(session: &Session, instances: &[Instance]) -> Result<Vec<Instance>> {
    let services: BTreeSet<_> = instances.iter().map(|one| one.service.clone()).collect();
    let services: Vec<_> = services.into_iter().collect();
    let listed = session.each(&services, async |service| {
        session.answer(session.registry.list(service)).await
    });
    let listed = listed.await?.into_iter();
    let there: BTreeMap<_, _> = listed.map(|list| (list.service().clone(), list)).collect();
    let is_absent = |one: &&Instance| {
        let list = there.get(&one.service);
        list.is_none_or(|list| list.get(&one.id).is_none())
    };
    Ok(instances.iter().filter(is_absent).cloned().collect())
}

/// Waits until a registration is held, for as long as the registry may take. Cancellation safe.
pub(crate) async fn is_held(session: &Session, registration: &Registration) -> Result<()> {
    let mut states = registration.states();
    let settled = states
        .wait_for(|state| state.is_held() || matches!(state, RegistrationState::Superseded { .. }));
    let settled = timeout(session.patience, settled).await;
    let name = registration.instance();
    let (service, id) = (&name.service, &name.id);
    match settled.map(|state| state.map(|state| state.clone())) {
        Ok(Ok(RegistrationState::Superseded { holder })) => {
            bail!("{service}/{id} is held by a later process ({holder})")
        }
        Ok(_) => Ok(()),
        Err(_) => match registration.state() {
            RegistrationState::Retrying { cause, .. } => {
                let url = session.registry.url();
                bail!("cannot register {service}/{id} in {url}: {cause}")
            }
            _ => session.no_answer(),
        },
    }
}

/// Takes all of them out, at the same time; the first error of those that could not be.
pub(crate) async fn leave(held: Vec<Registration>) -> Result<()> {
    let left = join_all(held.into_iter().map(Registration::deregister)).await;
    let left: Result<Vec<()>, _> = left.into_iter().collect();
    Ok(left.map(drop)?)
}
