//! Each member by itself: whether it answers, how fast, and what it says of itself.

use std::sync::Arc;

use futures_util::future::{join, join_all};
use tokio::time::Instant;

use super::{Members, clock, connection::Connection, failure::Failure, link::Link, ring::Ring};
use crate::{Address, Member, MemberStatus};

impl Members {
    /// All that were configured, and those of which the cluster has told so far, in the order of their addresses; each is asked
    /// at the same time, within the bounds of a request.
    pub(in super::super) async fn ask_each(&self) -> Vec<Member> {
        let mut members = self.ring().members();
        members.sort();
        members.dedup();
        let ring = Arc::clone(&self.ring);
        let asked = members.into_iter().map(|member| ask(&ring, member));
        join_all(asked).await
    }
}

async fn ask(ring: &Ring, member: Address) -> Member {
    let answered = async {
        let link = Link::new(&member, ring.tls.as_ref());
        let connection = Connection::with_member_alone(member.clone(), link).await?;
        // The first answer has waited for the connection.
        status(&connection).await?;
        status(&connection).await
    };
    let clock = clock::apart(&member, ring.tls.as_ref());
    let (status, clock) = join(answered, clock).await;
    let status = status.map_err(|failure: Failure| {
        let failure = crate::Cause::from(failure);
        crate::one_line(failure.as_ref())
    });
    Member::new(member, status, clock)
}

async fn status(connection: &Connection) -> Result<MemberStatus, Failure> {
    let began = Instant::now();
    let answer = connection.read(|client| {
        let mut maintenance = client.maintenance_client();
        async move { maintenance.status().await }
    });
    let answer = answer.await?;
    let itself = answer.header().map(etcd_client::ResponseHeader::member_id);
    Ok(MemberStatus {
        latency: began.elapsed(),
        version: answer.version().to_owned(),
        is_leader: itself == Some(answer.leader()),
        has_leader: answer.leader() != 0,
        bytes: u64::try_from(answer.db_size()).unwrap_or(0),
        errors: answer.errors().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testkit::etcd::Cluster;

    use crate::MemberStatus;

    #[tokio::test]
    async fn a_member_that_is_left_alone_says_that_it_knows_no_leader() {
        let mut cluster = Cluster::start(3).await.expect("an etcd");
        let registry = crate::connect(&cluster.url("shop")).expect("a registry");
        cluster.kill(0).await.expect("it is killed");
        cluster.kill(1).await.expect("it is killed");
        let knows_none = |status: &MemberStatus| !status.has_leader && !status.is_leader;
        testkit::eventually(Duration::from_mins(1), "its word", async || {
            let members = registry.members().await;
            let mut answers = members.iter().filter_map(|one| one.status.as_ref().ok());
            answers.next().is_some_and(knows_none)
        })
        .await;
    }
}
