//! The servers that keep the registry, and their clocks.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use futures_util::future::join_all;
use http::header::DATE;
use registry::{Member, MemberStatus};
use tokio::time::timeout;

use super::Finding;
use crate::{page, session::Session};

/// A server tells its time in whole seconds.
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
    // What is secured by TLS tells its time to whom it trusts.
    if session.registry.url().starts_with("etcds:") {
        let found = "were not compared: members behind TLS are not asked for the time";
        findings.push(Finding::fine("clock", session.registry.url(), found));
    } else {
        let answering = members.iter().filter(|member| member.status.is_ok());
        findings.extend(join_all(answering.map(|member| clock(session, member))).await);
    }
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
    let found = format!(
        "etcd {}, {role}, {latency:.1} ms, {mib:.1} MiB",
        status.version
    );
    let finding = Finding::fine("member", address, found);
    if !status.errors.is_empty() {
        let found = format!("{}; it says: {}", finding.found, status.errors.join(", "));
        return Finding { found, ..finding }
            .problem("free space if it says NOSPACE (compact, defragment, disarm the alarm), and see its log");
    }
    if !status.has_leader {
        return finding.problem("it knows no leader: see whether it reaches the other members");
    }
    if status.latency >= slow {
        return finding.warning("it is slow to answer: see its disk and the way to it");
    }
    finding
}

/// How far a member's clock is from ours, by what it says at its page.
async fn clock(session: &Session, member: &Member) -> Finding {
    let address = member.address.as_str();
    match timeout(session.patience, apart(address)).await {
        Ok(Ok(apart)) if apart > SKEWED => {
            let found = format!("its clock and ours are {} s apart", apart.as_secs());
            Finding::fine("clock", address, found).warning(
                "nothing here goes by clocks, but certificates and logs do: see that both are synchronised",
            )
        }
        Ok(Ok(_)) => Finding::fine("clock", address, "agrees with ours within 3 s"),
        Ok(Err(error)) => Finding::fine(
            "clock",
            address,
            format!("does not tell the time: {error:#}"),
        ),
        Err(_) => Finding::fine("clock", address, "has not told the time"),
    }
}

/// By how much a clock is before or after ours, which goes on while it is asked.
async fn apart(address: &str) -> Result<Duration> {
    let uri = format!("http://{address}/version").parse()?;
    let before = SystemTime::now();
    let answer = page::get(&uri).await?;
    let after = SystemTime::now();
    let date = answer.headers.get(DATE).context("its answer has no date")?;
    let theirs = httpdate::parse_http_date(date.to_str()?)?;
    let behind = before.duration_since(theirs);
    Ok(behind
        .or_else(|_| theirs.duration_since(after))
        .unwrap_or_default())
}
