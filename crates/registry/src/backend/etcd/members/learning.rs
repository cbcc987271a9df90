//! Members that nobody has configured: the cluster tells of them.
//!
//! What a cluster says of itself need not be true where we are: behind NAT or in containers its members advertise addresses
//! that lead nowhere, or somewhere else. So what is told is never put in place of what was configured. It is taken when it
//! answers, for the same cluster, and is used only when none of those that were configured does.

use std::{net::IpAddr, sync::Arc, time::Duration};

use etcd_client::{Member, MemberListResponse};
use tokio::{select, time::sleep};

use super::{connection::Connection, failure::Failure, ring::Ring};
use crate::Address;

/// How often the cluster is asked at the most.
const OFTEN: Duration = Duration::from_mins(1);
/// How much longer to wait when nothing fails.
const CALM: Duration = Duration::from_mins(9);
/// How many members are remembered: etcd's own documentation advises against more than seven.
const MOST: usize = 16;

/// Asks the cluster for its members now, after a while, and after a failure, for ever.
pub(super) async fn learn_on(ring: Arc<Ring>) {
    loop {
        if let Err(failure) = learn(&ring).await {
            // It may be that we are not allowed to ask.
            tracing::debug!(%failure, "the members of the etcd cluster are not told");
        }
        sleep(OFTEN).await;
        select! {
            () = ring.left.notified() => {}
            () = sleep(CALM.mul_f64(0.9 + fastrand::f64() * 0.2)) => {}
        }
    }
}

/// Asks the cluster once.
pub(super) async fn learn(ring: &Ring) -> Result<(), Failure> {
    let (told, by) = ring
        .call(|connection| async move { Ok((list(&connection).await?, connection.member)) })
        .await?;
    let scheme = if ring.tls.is_some() { "https" } else { "http" };
    let may_be_ours = |member: &Address| {
        let is_local = is_loopback(member) && is_loopback(&by);
        !ring.is_configured(member) && (is_elsewhere(member) || is_local)
    };
    let members = told.members().iter().filter(|member| !member.is_learner());
    let members = members.flat_map(Member::client_urls);
    let members = members
        .filter_map(|url| address(url, scheme))
        .filter(may_be_ours);
    let cluster = told.header().map(etcd_client::ResponseHeader::cluster_id);
    let mut found = Vec::new();
    for member in members.take(MOST) {
        if ring.has_learned(&member) || is_of(ring, &member, cluster).await {
            found.push(member);
        }
    }
    ring.learn(found);
    Ok(())
}

async fn list(connection: &Connection) -> Result<MemberListResponse, Failure> {
    let listed = connection.read(|client| {
        let mut cluster = client.cluster_client();
        async move { cluster.member_list().await }
    });
    listed.await
}

/// Whether there is a member of that cluster.
async fn is_of(ring: &Ring, member: &Address, cluster: Option<u64>) -> bool {
    let asked = async {
        let connection = ring.try_out(member).await?;
        let told = list(&connection).await?;
        let its = told.header().map(etcd_client::ResponseHeader::cluster_id);
        if its.is_none() || its != cluster {
            let other = "it is of another cluster".into();
            return Err(Failure::complaint(member, other));
        }
        Ok(())
    };
    let answered = asked.await;
    if let Err(failure) = &answered {
        tracing::debug!(%failure, "an etcd member is told of that cannot be used from here");
    }
    answered.is_ok()
}

/// The host and port in a URL of that scheme.
fn address(url: &str, scheme: &str) -> Option<Address> {
    let host = url.strip_prefix(scheme)?.strip_prefix("://")?;
    Address::new(host.trim_end_matches('/'))
        .ok()
        .filter(|address| address.port().is_some())
}

/// Whether the same address means the same place to somebody else.
fn is_elsewhere(member: &Address) -> bool {
    let host = member.host().unwrap_or_default();
    match host.parse::<IpAddr>() {
        Ok(ip) => !ip.is_loopback() && !ip.is_unspecified(),
        Err(_) => !is_loopback(member),
    }
}

fn is_loopback(member: &Address) -> bool {
    let host = member.host().unwrap_or_default();
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::{address, is_elsewhere, is_loopback};
    use crate::Address;

    #[test]
    fn a_member_is_taken_by_the_scheme_that_is_spoken_and_by_no_other() {
        for (url, scheme, member) in [
            ("http://etcd-1:2379", "http", Some("etcd-1:2379")),
            ("https://[fd00::7]:2379/", "https", Some("[fd00::7]:2379")),
            ("https://etcd-1:2379", "http", None),
            ("http://etcd-1:2379", "https", None),
            ("http://etcd-1", "http", None),
            ("http://unix:/run/etcd.sock", "http", None),
            ("unix://etcd:1", "http", None),
            ("", "http", None),
        ] {
            let taken = address(url, scheme).map(|address| address.to_string());
            assert_eq!(taken.as_deref(), member, "{url}");
        }
    }

    #[test]
    fn an_address_of_everybody_s_own_is_nobody_else_s() {
        for (member, elsewhere, loopback) in [
            ("10.0.0.1:1", true, false),
            ("etcd-1:1", true, false),
            ("localhost:1", false, true),
            ("127.0.0.1:1", false, true),
            ("[::1]:1", false, true),
            ("0.0.0.0:1", false, false),
            ("[::]:1", false, false),
        ] {
            let address = Address::new(member).expect("an address");
            let told = (is_elsewhere(&address), is_loopback(&address));
            assert_eq!(told, (elsewhere, loopback), "{member}");
        }
    }
}
