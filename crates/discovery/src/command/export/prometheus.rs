//! Targets for Prometheus' file-based service discovery.

use std::collections::BTreeMap;

use anyhow::Result;
use registry::{Address, Instance, ServiceName, Snapshot};
use serde::Serialize;

use crate::session::Session;

/// One entry of the file: an instance, with what it is called.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct TargetGroup {
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

/// A group for each instance, at `port` of its host or at its own; of a Unix socket there is nothing to scrape.
pub(super) async fn targets(
    session: &Session,
    services: &[ServiceName],
    port: Option<u16>,
) -> Result<Vec<TargetGroup>> {
    let services = session.services_or_all(services).await?;
    let listed = session.each(&services, async |service| {
        session.answer(session.registry.list(service)).await
    });
    let listed = listed.await?;
    let groups = listed
        .iter()
        .flat_map(Snapshot::instances)
        .filter_map(|one| {
            let target = at(one.address(), port.or(one.address().port())?)?;
            let targets = [target];
            let labels = labels(one);
            Some(TargetGroup { targets, labels })
        });
    Ok(groups.collect())
}

/// The same host at another port; none of a Unix socket.
fn at(address: &Address, port: u16) -> Option<String> {
    address.port()?;
    let host = address.as_str().rsplit_once(':')?.0;
    Some(format!("{host}:{port}"))
}

/// `job` is the service, as rules and dashboards ask; what begins with `__meta_` is there while targets are relabelled.
fn labels(one: &Instance) -> BTreeMap<String, String> {
    let meta = |name: &str, value: &str| (format!("__meta_discovery_{name}"), value.to_owned());
    let zone = one.zone.as_ref().map(|zone| meta("zone", zone.as_str()));
    let version = one
        .version
        .as_deref()
        .map(|version| meta("version", version));
    let own = one.labels.iter().map(|(name, value)| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = name.chars().map(plain).collect();
        meta(&format!("label_{name}"), value)
    });
    let always = [
        ("job".to_owned(), one.service.to_string()),
        meta("id", one.id.as_str()),
        meta("status", one.status.as_str()),
    ];
    always
        .into_iter()
        .chain(zone)
        .chain(version)
        .chain(own)
        .collect()
}
