//! What is registered: whether it can be read, what holds it, what is wanted of it, and whether it answers.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use futures_util::{StreamExt, stream};
use registry::{Instance, Intents, Placement, ServiceName, Status};
use tokio::time::timeout;

use super::Finding;
use crate::{reach, session::Session, words::count};

/// How many instances are connected at a time.
const AT_A_TIME: usize = 32;

pub(super) async fn examine(
    session: &Session,
    services: &[ServiceName],
    patience: Duration,
) -> Result<Vec<Finding>> {
    let registry = &session.registry;
    let mut findings = Vec::new();
    let (mut instances, mut kept) = (Vec::new(), 0);
    for service in services {
        let before = registry.undecodable();
        let placed = session.answer(registry.placements(service)).await?;
        let listed = session.answer(registry.list(service)).await?;
        let intents = session.answer(registry.intents(service)).await?;
        let skipped = registry.undecodable() - before;
        if skipped > 0 {
            let found = format!(
                "has {skipped} values that are no instances, or no intents; the log above names each"
            );
            findings.push(Finding::fine("key", service.as_str(), found).warning(
                "they are passed over: delete them, or name their dialect in registry.dialects",
            ));
        }
        findings.extend(
            placed
                .iter()
                .filter_map(|place| lease(registry.url(), place)),
        );
        let there = |id: &_| listed.get(id).is_some();
        findings.extend(left_over(service, &intents, there));
        kept += placed.len();
        instances.extend(listed.instances().cloned());
    }
    let found = format!(
        "{} at {}",
        count(instances.len(), "instance"),
        count(kept, "place")
    );
    findings.push(Finding::fine("lease", registry.url(), found));
    findings.extend(silent(session, instances, patience).await);
    Ok(findings)
}

/// What is wrong with what holds an instance. A lease is kept alive each third of its TTL: one with less than that left has
/// missed two.
fn lease(url: &str, place: &Placement) -> Option<Finding> {
    let key = place.instance.origin()?.key.to_string();
    let Some(lease) = place.lease else {
        let found = "has no lease: it stays when its process is gone";
        return url.starts_with("etcd").then(|| {
            Finding::fine("lease", key, found)
                .warning("have whoever writes it use a lease; delete the key once it is nobody's")
        });
    };
    let found = format!(
        "has {} s left of its lease of {} s",
        lease.remaining.as_secs(),
        lease.ttl.as_secs()
    );
    (lease.remaining < lease.ttl / 3).then(|| {
        Finding::fine("lease", key, found).warning(
            "its owner has not been heard of: see whether the process lives and reaches the registry",
        )
    })
}

/// What is wanted of instances that are not there.
fn left_over(
    service: &ServiceName,
    intents: &Intents,
    is_there: impl Fn(&registry::InstanceId) -> bool,
) -> Vec<Finding> {
    let gone = intents.iter().filter(|(id, _)| !is_there(id));
    let finding = gone.map(|(id, intent)| {
        let found = format!("is not registered, and an operator wants of it: {intent}");
        Finding::fine("intent", format!("{service}/{id}"), found).warning(
            "whoever takes the id is under it: `discovery undrain`, `discovery weight … own`, or keep it so",
        )
    });
    finding.collect()
}

/// Those that take no connection. Of one that is to take calls that is a problem; another may be on its way out.
async fn silent(
    session: &Session,
    instances: Vec<Arc<Instance>>,
    patience: Duration,
) -> Vec<Finding> {
    let all = instances.len();
    // Nothing is drained or deregistered in a list that somebody else keeps.
    let (of_serving, of_others) = if session.takes_instances() {
        (
            "see whether it runs and can be reached from here; `discovery drain` keeps callers from it",
            "it takes no calls as it is; deregister it when it is not to come back",
        )
    } else {
        (
            "see whether it runs and can be reached from here; taken out of the list it is not called",
            "it takes no calls as it is; take it out of the list when it is not to come back",
        )
    };
    let asked = stream::iter(instances).map(|one: Arc<Instance>| async move {
        let refused = match timeout(patience, reach::connect(one.address())).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!(
                "takes no connection within {}",
                humantime::format_duration(patience)
            ),
        };
        let name = format!("{}/{}", one.service, one.id);
        let finding = Finding::fine("instance", name, refused);
        Some(if one.status == Status::Serving {
            finding.problem(of_serving)
        } else {
            finding.warning(of_others)
        })
    });
    let mut findings: Vec<_> = asked
        .buffered(AT_A_TIME)
        .filter_map(async |finding| finding)
        .collect()
        .await;
    let answer = all - findings.len();
    let found = format!("{answer} of {} took a connection", count(all, "instance"));
    findings.push(Finding::fine("instance", session.registry.url(), found));
    findings
}

#[cfg(test)]
mod tests {
    use registry::{Address, RegistrationState};
    use testkit::etcd::Cluster;

    use super::{Duration, Instance, ServiceName, lease};
    use crate::command::doctor::Level;

    #[tokio::test]
    async fn a_lease_of_which_less_than_a_third_is_left_is_about_to_end() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let registry = registry::connect(&cluster.url("shop")).expect("a registry");
        let greeter = ServiceName::new("greeter").expect("a name");
        let address = Address::new("10.0.0.7:1").expect("an address");
        let one = Instance::new(greeter.clone(), address);
        let registration = registry.register(one, Duration::from_mins(10));
        let mut states = registration.states();
        let held = states.wait_for(RegistrationState::is_held).await;
        drop(held.expect("it goes on"));
        let mut places = registry.placements(&greeter).await.expect("the places");
        let place = &mut places[0];
        // As when its owner has not been heard of since.
        let mut left = |seconds| {
            let held_by = place.lease.as_mut().expect("a lease");
            held_by.remaining = Duration::from_secs(seconds);
            lease(registry.url(), place)
        };
        assert_eq!(left(200), None);
        let finding = left(199).expect("it is told");
        assert_eq!(finding.level, Level::Warning);
        assert_eq!(finding.subject, "shop/greeter/10.0.0.7:1");
        assert_eq!(finding.found, "has 199 s left of its lease of 600 s");
    }
}
