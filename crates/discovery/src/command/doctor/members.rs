//! The servers that keep the registry, and their clocks.

use std::{collections::BTreeSet, time::Duration};

use registry::{Member, MemberStatus};

use super::Finding;
use crate::session::Session;

/// What a machine whose clock is synchronised never comes to.
const SKEWED: Duration = Duration::from_secs(3);

/// Each member by itself, how they agree, and their clocks; an answer is `slow` from that time on.
pub(super) async fn examine(session: &Session, slow: Duration) -> Vec<Finding> {
    let members = session.registry.members().await;
    if members.is_empty() {
        let url = session.registry.url();
        let found =
            "has no members that could be asked, and no leases: it is a directory or a list";
        return vec![Finding::fine("member", url, found)];
    }
    let mut findings: Vec<_> = members.iter().map(|member| one(member, slow)).collect();
    let running = |member: &Member| Some(member.status.as_ref().ok()?.version.clone());
    let versions: BTreeSet<_> = members.iter().filter_map(running).collect();
    if versions.len() > 1 {
        let versions: Vec<_> = versions.into_iter().collect();
        let found = format!("run different versions: {}", versions.join(", "));
        let finding = Finding::fine("member", session.registry.url(), found);
        findings
            .push(finding.warning("finish the upgrade: a cluster does what its oldest member can"));
    }
    let answering = members.iter().filter(|member| member.status.is_ok());
    findings.extend(answering.map(clock));
    findings
}

fn one(member: &Member, slow: Duration) -> Finding {
    let address = member.address.as_str();
    match &member.status {
        Err(cause) => Finding::fine("member", address, cause.as_str()).problem(
            "start it or repair the way to it; while most members answer, the others go on",
        ),
        Ok(status) => answering(address, status, slow),
    }
}

fn answering(address: &str, status: &MemberStatus, slow: Duration) -> Finding {
    let role = if status.is_leader {
        "leader"
    } else {
        "follower"
    };
    let latency = status.latency.as_secs_f64() * 1e3;
    let mib = status.bytes as f64 / f64::from(1 << 20);
    let mut found = format!(
        "etcd {}, {role}, {latency:.1} ms, {mib:.1} MiB",
        status.version
    );
    if !status.errors.is_empty() {
        found = format!("{found}; it says: {}", status.errors.join(", "));
    }
    let finding = Finding::fine("member", address, found);
    // etcd says so among its errors too.
    if !status.has_leader {
        return finding.problem("it knows no leader: see whether it reaches the other members");
    }
    if !status.errors.is_empty() {
        return finding
            .problem("free space if it says NOSPACE (compact, defragment, disarm the alarm), and see its log");
    }
    if status.latency >= slow {
        return finding.warning("it is slow to answer: see its disk and the way to it");
    }
    finding
}

/// How far a member's clock is from ours.
fn clock(member: &Member) -> Finding {
    let address = member.address.as_str();
    match &member.clock {
        Ok(apart) if *apart > SKEWED => {
            let found = format!("its clock and ours are {} s apart", apart.as_secs());
            Finding::fine("clock", address, found).warning(
                "nothing here goes by clocks, but certificates and logs do: see that both are synchronised",
            )
        }
        Ok(_) => Finding::fine("clock", address, "agrees with ours within 3 s"),
        Err(cause) => Finding::fine("clock", address, format!("does not tell the time: {cause}")),
    }
}
