//! Targets for Prometheus' file-based service discovery.

use std::collections::BTreeMap;

use registry::Address;
use serde::Serialize;

use crate::exported::{Exported, ExportedInstance};

/// One entry of the file: an instance, with what it is called.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct TargetGroup {
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

/// A group for each instance, at `port` of its host or at its own; of a Unix socket there is nothing to scrape without.
pub(super) fn targets(exported: &Exported, port: Option<u16>) -> Vec<TargetGroup> {
    let services = exported.services.iter();
    let instances = services.flat_map(|of| of.instances.iter().map(|one| (&of.service, one)));
    let groups = instances.filter_map(|(service, one)| {
        let first = Address::new(one.addresses.first()?).ok()?;
        let target = at(&first, port.or(first.port())?)?;
        let targets = [target];
        let labels = labels(service, one);
        Some(TargetGroup { targets, labels })
    });
    groups.collect()
}

/// The same host at another port; none of a Unix socket.
fn at(address: &Address, port: u16) -> Option<String> {
    address.port()?;
    let host = address.as_str().rsplit_once(':')?.0;
    Some(format!("{host}:{port}"))
}

/// `job` is the service, as rules and dashboards ask; what begins with `__meta_` is there while targets are relabelled.
fn labels(service: &str, one: &ExportedInstance) -> BTreeMap<String, String> {
    let meta = |name: &str, value: &str| (format!("__meta_discovery_{name}"), value.to_owned());
    let zone = one.zone.as_deref().map(|zone| meta("zone", zone));
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
        ("job".to_owned(), service.to_owned()),
        meta("id", &one.id),
        meta("status", &one.status),
    ];
    always
        .into_iter()
        .chain(zone)
        .chain(version)
        .chain(own)
        .collect()
}
