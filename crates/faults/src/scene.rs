//! What a fault is brought about on: an etcd cluster, greeters, and their caller.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use testkit::{
    etcd::{Cluster, Key},
    fleet::Fleet,
    until,
};
use tokio::time::{Instant, sleep};

use crate::{
    caller::{Caller, deadline},
    outcome::Seen,
};

/// How long the registry keeps a greeter that is not heard of any more.
pub(crate) const TTL: Duration = Duration::from_secs(5);
/// etcd looks for leases that have expired every half a second, and a leader that is new gives each its whole time anew.
pub(crate) const EXPIRED: Duration = Duration::from_secs(7);
/// What all keys of a scene begin with.
pub(crate) const NAMESPACE: &str = "faults";
/// Far more than anything takes; what takes longer than it may is measured first.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// How long a fault lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) short: bool,
}

impl Pace {
    /// How long an outage is: three times the lease, or just long enough for every lease to end.
    pub(crate) fn outage(self) -> Duration {
        if self.short { EXPIRED } else { 3 * TTL }
    }

    /// One or the other.
    pub(crate) fn pick<T>(self, long: T, short: T) -> T {
        if self.short { short } else { long }
    }
}

pub(crate) struct Scene {
    // In the order in which they end when a fault is broken off.
    pub(crate) caller: Caller,
    pub(crate) fleet: Fleet,
    pub(crate) cluster: Cluster,
    pub(crate) pace: Pace,
}

impl Scene {
    /// Three members, three greeters, and a caller that has found them.
    pub(crate) async fn open(pace: Pace) -> Result<Self> {
        Self::open_with(pace, |_| ()).await
    }

    /// The same, with whatever is to be said to the fleet before anybody is started.
    pub(crate) async fn open_with(pace: Pace, prepare: impl FnOnce(&mut Fleet)) -> Result<Self> {
        Self::open_like(pace, deadline(pace), prepare).await
    }

    /// The same for calls that may take so long.
    pub(crate) async fn open_like(
        pace: Pace,
        deadline: &str,
        prepare: impl FnOnce(&mut Fleet),
    ) -> Result<Self> {
        let cluster = Cluster::start(3).await?;
        let mut fleet = fleet(&cluster)?;
        prepare(&mut fleet);
        fleet.add_many(3).await?;
        let caller = Caller::start(&mut fleet, deadline)?;
        let scene = Self {
            caller,
            fleet,
            cluster,
            pace,
        };
        scene
            .caller
            .until_it_calls(&scene.fleet.addresses(), PATIENCE)
            .await?;
        Ok(scene)
    }

    /// The greeters that are registered, by their addresses.
    pub(crate) async fn registered(&self) -> Result<BTreeMap<String, Key>> {
        let prefix = format!("{NAMESPACE}/greeter/");
        let keys = self.cluster.keys(&prefix).await?;
        let address = |key: &str| key.strip_prefix(&prefix).unwrap_or(key).to_owned();
        Ok(keys
            .into_iter()
            .map(|(key, of)| (address(&key), of))
            .collect())
    }

    /// Waits until the greeters of the fleet are registered, and nobody else, and tells how long after `since` that is so;
    /// and then until the caller calls just those.
    pub(crate) async fn right_again(&self, since: Instant) -> Result<Duration> {
        let took = self.registry_is_right(since).await?;
        let addresses = self.fleet.addresses();
        self.caller.until_it_calls(&addresses, PATIENCE).await?;
        Ok(took)
    }

    /// The same for the registry alone.
    pub(crate) async fn registry_is_right(&self, since: Instant) -> Result<Duration> {
        let mut expected = self.fleet.addresses();
        expected.sort_unstable();
        until(
            PATIENCE,
            "the registry to list the greeters that run",
            async || {
                let registered = self.registered().await?;
                ensure!(
                    registered.keys().eq(&expected),
                    "it lists {:?}, and there are {expected:?}",
                    registered.keys()
                );
                Ok(())
            },
        )
        .await?;
        Ok(since.elapsed())
    }

    /// Looks whether the registry is right still when every lease would have ended that nobody keeps alive: etcd gives each
    /// its whole time anew when it starts.
    pub(crate) async fn stays_right(&self) -> Result<()> {
        sleep(EXPIRED).await;
        let took = self.registry_is_right(Instant::now()).await?;
        ensure!(
            took < Duration::from_secs(1),
            "the registry was wrong once more"
        );
        Ok(())
    }

    /// Goes on for a while with everything as it is.
    pub(crate) async fn calm(&self) {
        sleep(
            self.pace
                .pick(Duration::from_secs(2), Duration::from_secs(1)),
        )
        .await;
    }

    /// One of the greeters.
    pub(crate) fn eldest(&self) -> Result<String> {
        let eldest = self.fleet.servers().first().context("no greeter is left")?;
        Ok(eldest.address().to_owned())
    }

    /// A member that does not lead.
    pub(crate) async fn follower(&self) -> Result<usize> {
        let leader = self.cluster.leader().await?;
        Ok((leader + 1) % self.cluster.len())
    }

    /// Ends the calls, none of which may fail, and tells how long it took until everything was right again.
    pub(crate) async fn close_right_after(self, took: Duration, bound: Duration) -> Result<Seen> {
        let right_after = Some((took, bound));
        let seen = Seen {
            right_after,
            ..Seen::default()
        };
        self.close(seen).await
    }

    /// Ends the calls, and tells what was seen.
    pub(crate) async fn close(self, seen: Seen) -> Result<Seen> {
        self.calm().await;
        let figures = self.caller.stop().await?;
        ensure!(figures.calls > 0, "the caller has made no call");
        Ok(Seen {
            calls: figures.calls,
            failed: figures.failures,
            failures: figures.failures_in_words(),
            ..seen
        })
    }
}

/// A fleet without anybody in it, whose leases last [`TTL`].
pub(crate) fn fleet(cluster: &Cluster) -> Result<Fleet> {
    let mut fleet = Fleet::new(cluster.url(NAMESPACE))?;
    fleet.set_env("DISCOVERY__REGISTRY__TTL", &format!("{}s", TTL.as_secs()));
    Ok(fleet)
}
