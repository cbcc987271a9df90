//! What is registered: whether it can be read, what holds it, what is wanted of it, and whether it answers.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use futures_util::{StreamExt, stream};
use registry::{Instance, Intents, Placement, ServiceName, Snapshot, Status};
use tokio::time::{Instant, timeout};

use super::Finding;
use crate::{reach, session::Session, words::count};

/// How many instances are connected at a time.
const AT_A_TIME: usize = 32;
/// How many answers are asked for of each service.
const ANSWERS: u32 = 3;

/// What the registry has of a service.
struct Read {
    placed: Vec<Placement>,
    listed: Snapshot,
    intents: Intents,
    /// How many values were read that are neither instances nor intents.
    skipped: u64,
}

/// A service that cannot be read is a finding, and the next one is asked about. A registry that tells of none for as long as all
/// answers about one may take is ill itself, and is not waited for once for each service that is left.
pub(super) async fn examine(
    session: &Session,
    services: &[ServiceName],
    patience: Duration,
) -> Vec<Finding> {
    let url = session.registry.url();
    let mut findings = Vec::new();
    let (mut instances, mut kept) = (Vec::new(), 0);
    let silence = session.patience.saturating_mul(ANSWERS);
    let mut told_at = Instant::now();
    let mut left = services.iter();
    while told_at.elapsed() < silence
        && let Some(service) = left.next()
    {
        let rest = silence.saturating_sub(told_at.elapsed());
        let read = timeout(rest, read(session, service)).await;
        match read.unwrap_or_else(|_| session.no_answer()) {
            Ok(read) => {
                told_at = Instant::now();
                findings.extend(of_service(url, service, &read));
                kept += read.placed.len();
                instances.extend(read.listed.instances().cloned());
            }
            Err(error) => {
                findings.push(Finding::unread(service.as_str(), format!("{error:#}")));
            }
        }
    }
    if let [first, ..] = left.as_slice() {
        let silence = humantime::format_duration(silence);
        let left = count(left.len(), "service");
        let found = format!(
            "was not asked about {left}, from {first} on, as it had told of none for {silence}"
        );
        findings.push(Finding::unread(url, found));
    }
    let found = format!(
        "{} at {}",
        count(instances.len(), "instance"),
        count(kept, "place")
    );
    findings.push(Finding::fine("lease", url, found));
    findings.extend(silent(session, instances, patience).await);
    findings
}

async fn read(session: &Session, service: &ServiceName) -> Result<Read> {
    let registry = &session.registry;
    let before = registry.undecodable();
    Ok(Read {
        placed: session.answer(registry.placements(service)).await?,
        listed: session.answer(registry.list(service)).await?,
        intents: session.answer(registry.intents(service)).await?,
        skipped: registry.undecodable() - before,
    })
}

fn of_service(url: &str, service: &ServiceName, read: &Read) -> Vec<Finding> {
    let mut findings = Vec::new();
    if read.skipped > 0 {
        let skipped = read.skipped;
        let found = format!(
            "has {skipped} values that are no instances, or no intents; the log above names each"
        );
        findings.push(Finding::fine("key", service.as_str(), found).warning(
            "they are passed over: delete them, or name their dialect in registry.dialects",
        ));
    }
    findings.extend(read.placed.iter().filter_map(|place| lease(url, place)));
    let is_there = |id: &_| read.listed.get(id).is_some();
    findings.extend(left_over(service, &read.intents, is_there));
    findings
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
    use std::future::{pending, ready};

    use futures_util::{
        FutureExt,
        future::BoxFuture,
        stream::{self, BoxStream, StreamExt},
    };
    use registry::{
        Address, Change, Hold, HoldRequest, InstanceId, Intent, Intents, RegistrationState,
        Registry, Snapshot, Store, StoreError,
    };
    use testkit::etcd::Cluster;
    use tokio::time::Instant;

    use super::{Duration, Finding, Instance, ServiceName, Session, Status, examine, lease};
    use crate::command::doctor::Level;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Has an intent for an instance of each service that is not there. Of `secret/…` it tells nobody what it has, and of `slow/…`
    /// it never does.
    #[derive(Debug)]
    struct Ill;

    impl Store for Ill {
        fn url(&self) -> &'static str {
            "ill:"
        }

        fn hold(&self, _: HoldRequest) -> BoxFuture<'_, Result<Box<dyn Hold>, StoreError>> {
            pending().boxed()
        }

        fn list<'a>(
            &'a self,
            service: &'a ServiceName,
        ) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
            match service.as_str().split_once('/') {
                Some(("slow", _)) => pending().boxed(),
                Some(("secret", _)) => {
                    let service = service.clone();
                    let source = "permission denied".into();
                    ready(Err(StoreError::ListFailed { service, source })).boxed()
                }
                _ => ready(Ok(Snapshot::empty(service.clone()))).boxed(),
            }
        }

        fn watch(&self, _: &ServiceName) -> BoxStream<'static, Result<Change, StoreError>> {
            stream::pending().boxed()
        }

        fn services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>> {
            pending().boxed()
        }

        fn list_intents<'a>(
            &'a self,
            _: &'a ServiceName,
        ) -> BoxFuture<'a, Result<Intents, StoreError>> {
            let id = InstanceId::new("gone").expect("an id");
            let mut intents = Intents::default();
            intents.set(id, Some(Intent::from(Status::Draining)));
            ready(Ok(intents)).boxed()
        }
    }

    async fn examined<'a>(services: impl IntoIterator<Item = &'a str>) -> Vec<Finding> {
        let services = services.into_iter().map(ServiceName::new);
        let services: Result<Vec<_>, _> = services.collect();
        let session = Session::on(Registry::new(Ill), PATIENCE);
        examine(&session, &services.expect("names"), PATIENCE).await
    }

    /// Those that are not fine, as `CHECK SUBJECT`.
    fn told(findings: &[Finding]) -> Vec<String> {
        let bad = findings.iter().filter(|one| one.level != Level::Fine);
        bad.map(|one| format!("{} {}", one.check, one.subject))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_cannot_be_read_is_a_problem_and_the_others_are_examined() {
        let findings = examined(["a", "secret/b", "slow/c", "d"]).await;
        assert_eq!(
            told(&findings),
            [
                "intent a/gone",
                "registry secret/b",
                "registry slow/c",
                "intent d/gone"
            ]
        );
        let [secret, slow] = [&findings[1], &findings[2]];
        assert_eq!([secret.level, slow.level], [Level::Problem; 2]);
        assert!(secret.found.contains("permission denied"), "{secret:?}");
        assert!(slow.found.contains("within 10s"), "{slow:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_tells_nothing_any_more_is_not_waited_for_once_for_each_service() {
        let names: Vec<_> = (0..1_000).map(|number| format!("slow/{number}")).collect();
        let names = ["a"].into_iter().chain(names.iter().map(String::as_str));
        let began = Instant::now();
        let findings = examined(names).await;
        let took = began.elapsed();
        assert!(took < 4 * PATIENCE, "{took:?}");
        let bad = told(&findings);
        assert_eq!(bad[0], "intent a/gone");
        let [.., not_asked] = &bad[..] else {
            panic!("{findings:?}")
        };
        assert_eq!(not_asked, "registry ill:");
        let not_asked = findings.iter().rfind(|one| one.level == Level::Problem);
        let found = &not_asked.expect("a problem").found;
        assert!(found.contains("997 services, from slow/3 on"), "{found}");
    }

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
