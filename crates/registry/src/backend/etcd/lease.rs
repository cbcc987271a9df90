//! A lease: granted, kept alive, revoked.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep, sleep_until},
};

use super::members::{Connection, Failure, Members, REQUEST};
use crate::{Backoff, BackoffPolicy, one_line};

/// Below this etcd grants more than is asked for, with its default election timeout.
const SHORTEST: i64 = 2;
/// Above this etcd grants nothing. Who says more is taken to mean this: a clock can be that far ahead, but not any further.
const LONGEST: i64 = 9_000_000_000;

/// How a lease was lost that etcd does not know.
pub(super) const EXPIRED: &str = "the lease has expired or was revoked";

/// A lease that was granted to us. Dropped, it is left to expire.
#[derive(Debug)]
pub(super) struct Lease {
    id: i64,
    ttl: Duration,
    granted: Instant,
    members: Arc<Members>,
}

impl Lease {
    /// A new lease of `ttl` seconds.
    pub(super) async fn grant(members: &Arc<Members>, ttl: i64) -> Result<Self, Failure> {
        let granted = Instant::now();
        let answer = members.call(|connection: Connection| async move {
            let mut client = connection.client.clone();
            connection.ask(client.lease_grant(ttl, None)).await
        });
        let answer = answer.await?;
        Ok(Self {
            id: answer.id(),
            ttl: seconds(answer.ttl()),
            granted,
            members: Arc::clone(members),
        })
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// What keeps the lease alive; from the time of the grant on, since etcd counts from then at the earliest.
    pub(super) fn keeper(&self) -> Keeper {
        Keeper {
            id: self.id,
            ttl: self.ttl,
            asked: self.granted,
            deadline: self.granted + self.ttl,
            members: Arc::clone(&self.members),
        }
    }
}

/// Ends a lease, and whatever keys it holds, by a task of its own, as well as that can be done: it ends within the bounds
/// of its requests.
pub(super) fn revoke_in_background(members: &Arc<Members>, id: i64) {
    let members = Arc::clone(members);
    // Outside a runtime nothing can be sent; the lease expires.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            if let Err(failure) = revoke(&members, id).await {
                tracing::debug!(lease = id, %failure, "a lease is left to expire");
            }
        });
    }
}

async fn revoke(members: &Members, id: i64) -> Result<(), Failure> {
    let revoked = members.call(|connection: Connection| async move {
        let mut client = connection.client.clone();
        connection.ask(client.lease_revoke(id)).await
    });
    match revoked.await {
        Err(failure) if !failure.is_lease_not_found() => Err(failure),
        _ => Ok(()),
    }
}

/// Keeps a lease alive by asking every third of its TTL, at another member when one does not answer.
#[derive(Debug)]
pub(super) struct Keeper {
    id: i64,
    ttl: Duration,
    /// When the newest request was sent that was answered.
    asked: Instant,
    /// When the lease may have expired, by our own clock.
    deadline: Instant,
    members: Arc<Members>,
}

impl Keeper {
    /// Ends when the lease is lost, and says how.
    pub(super) async fn keep(mut self) -> String {
        let mut backoff = Backoff::new(BackoffPolicy {
            initial: Duration::from_millis(20),
            max: (self.ttl / 10).min(Duration::from_secs(1)),
            multiplier: 1.6,
            jitter: 0.2,
        });
        sleep_until(self.asked + self.ttl / 3).await;
        loop {
            let before = self.deadline;
            let failure = self.follow().await;
            if failure.is_lease_not_found() {
                return EXPIRED.into();
            }
            if Instant::now() >= self.deadline {
                let ttl = self.ttl.as_secs();
                let cause = one_line(&failure);
                return format!("no keep-alive was answered for {ttl} s: {cause}");
            }
            tracing::debug!(lease = self.id, %failure, "a keep-alive stream broke; opening another");
            if self.deadline > before {
                backoff.reset();
            }
            sleep(backoff.next_delay()).await;
        }
    }

    /// Keeps the lease alive over one stream until that breaks, or until the deadline.
    async fn follow(&mut self) -> Failure {
        let connection = match self.members.connection_for_leases().await {
            Ok(connection) => connection,
            Err(failure) => return failure,
        };
        let Err(failure) = self.follow_on(&connection).await;
        if !failure.is_lease_not_found() {
            self.members.leave(&connection, &failure);
        }
        failure
    }

    async fn follow_on(&mut self, connection: &Connection) -> Result<Infallible, Failure> {
        let mut asking = Instant::now();
        let mut client = connection.client.clone();
        let opened = connection.within(self.patience(), client.lease_keep_alive(self.id));
        let (mut keeper, mut answers) = opened.await?;
        loop {
            self.asked = asking;
            self.deadline = asking + self.ttl;
            sleep_until(self.asked + self.ttl / 3).await;
            asking = Instant::now();
            let answered = connection.within(self.patience(), async {
                keeper.keep_alive().await?;
                answers.message().await
            });
            match answered.await? {
                Some(answer) if answer.ttl() > 0 => self.ttl = seconds(answer.ttl()),
                Some(_) => return Err(connection.lease_not_found()),
                None => return Err(connection.complaint("it ended the keep-alive stream")),
            }
        }
    }

    /// How long to wait for an answer before another member is asked.
    fn patience(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.min(self.ttl / 3).min(REQUEST)
    }
}

/// The TTL in the unit and within the bounds that etcd has.
pub(super) fn whole_seconds(ttl: Duration) -> i64 {
    let up = u64::from(ttl.subsec_nanos() > 0);
    let seconds = i64::try_from(ttl.as_secs().saturating_add(up));
    seconds.unwrap_or(i64::MAX).max(SHORTEST)
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.clamp(0, LONGEST).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant, seconds, whole_seconds};

    #[test]
    fn a_part_of_a_second_is_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(2_001)), 3);
        assert_eq!(whole_seconds(Duration::from_secs(10)), 10);
        assert_eq!(whole_seconds(Duration::MAX), i64::MAX);
    }

    #[test]
    fn an_absurd_ttl_is_a_very_long_one_or_none() {
        let now = Instant::now();
        assert!(now + seconds(i64::MAX) > now + seconds(1_000_000));
        assert_eq!(now + seconds(i64::MIN), now);
    }
}
