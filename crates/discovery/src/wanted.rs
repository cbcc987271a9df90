//! All that is wanted of the instances of a service, also what the registry has lost and the instances remember.

use std::collections::BTreeMap;

use anyhow::Result;
use registry::{Instance, InstanceId, Intent, ServiceName, Snapshot};

use crate::session::Session;

/// What is wanted, by id, of instances that are `listed` and of others. What the registry has has an
/// [origin](Intent::origin); what an instance alone remembers has none.
pub(crate) async fn of(
    session: &Session,
    service: &ServiceName,
    listed: &Snapshot,
) -> Result<BTreeMap<InstanceId, Intent>> {
    let stored = session.answer(session.registry.intents(service)).await?;
    let remembered = listed
        .instances()
        .filter_map(|one| Some((&one.id, Instance::intent(one)?)))
        .filter(|(_, intent)| intent.origin().is_none());
    let all = remembered.chain(stored.iter());
    Ok(all
        .map(|(id, intent)| (id.clone(), intent.clone()))
        .collect())
}
