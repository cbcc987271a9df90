//! The keys of services, written by a bare client as our own registrations write them.

use anyhow::{Context, Result};
use etcd_client::{Client, PutOptions, Txn, TxnOp};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use testkit::etcd::Cluster;
use tokio::time::Instant;

/// How many keys one transaction writes; etcd refuses more than 128.
const AT_ONCE: u32 = 100;
/// How many transactions are on their way at once.
const UNDER_WAY: usize = 16;
/// Longer than any measurement.
const TTL: i64 = 3_600;

/// A bare client and its lease.
#[derive(Clone)]
pub(super) struct Keys {
    client: Client,
    lease: i64,
}

impl Keys {
    pub(super) async fn of(cluster: &Cluster) -> Result<Self> {
        let mut client = Client::connect(&cluster.endpoints()[..1], None).await?;
        let lease = client.lease_grant(TTL, None).await?.id();
        Ok(Self { client, lease })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Puts one key as an instance's registration is put: with a lease.
    pub(super) async fn put(&self, key: String, value: String) -> Result<()> {
        let options = PutOptions::new().with_lease(self.lease);
        self.client().put(key, value, Some(options)).await?;
        Ok(())
    }

    /// Puts one key as etcd's own `benchmark put` does: without a lease, which costs etcd much less than one that many
    /// puts at once have in common.
    pub(super) async fn put_without_lease(&self, key: String, value: String) -> Result<()> {
        self.client().put(key, value, None).await?;
        Ok(())
    }

    /// Fills a service with instances; what is there is written anew.
    pub(super) async fn fill(&self, service: &str, instances: u32) -> Result<i64> {
        let starts = (0..instances).step_by(AT_ONCE as usize);
        let writes = starts.map(|start| {
            let end = (start + AT_ONCE).min(instances);
            self.write(service, start..end)
        });
        let revisions = stream::iter(writes).buffer_unordered(UNDER_WAY);
        let revisions: Vec<_> = revisions.try_collect().await?;
        revisions.into_iter().max().context("nothing was written")
    }

    /// Writes `events` keys of a service as fast as etcd takes them; says when it began, and the last revision.
    pub(super) async fn burst(
        &self,
        service: &str,
        instances: u32,
        events: u32,
    ) -> Result<(Instant, i64)> {
        let began = Instant::now();
        let mut last = 0;
        for _ in 0..events / instances {
            last = self.fill(service, instances).await?;
        }
        Ok((began, last))
    }

    /// Changes one instance after another.
    pub(super) async fn change(&self, service: &str, instances: u32, changes: u32) -> Result<i64> {
        let mut last = 0;
        for change in 0..changes {
            let one = fastrand::u32(..instances);
            last = self
                .write_weighted(service, one..one + 1, 2 + change % 1_000)
                .await?;
        }
        Ok(last)
    }

    async fn write(&self, service: &str, numbers: std::ops::Range<u32>) -> Result<i64> {
        self.write_weighted(service, numbers, fastrand::u32(2..1_000))
            .await
    }

    async fn write_weighted(
        &self,
        service: &str,
        numbers: std::ops::Range<u32>,
        weight: u32,
    ) -> Result<i64> {
        let put = |number| {
            let (key, value) = instance(service, number, weight);
            TxnOp::put(key, value, Some(PutOptions::new().with_lease(self.lease)))
        };
        let all = Txn::new().and_then(numbers.map(put).collect::<Vec<_>>());
        let answer = self.client().txn(all).await?;
        Ok(answer
            .header()
            .context("an answer has a header")?
            .revision())
    }
}

/// The key and the value of an instance that says its weight and its incarnation.
pub(super) fn instance(service: &str, number: u32, weight: u32) -> (String, String) {
    let [_, a, b, c] = number.to_be_bytes();
    let address = format!("10.{a}.{b}.{c}:50051");
    let value = format!(
        r#"{{"Op":0,"Addr":"{address}","Metadata":"{{\"v\":1,\"weight\":{weight},\"incarnation\":\"{:016x}\"}}"}}"#,
        u64::from(number) + 1
    );
    (format!("{service}/{address}"), value)
}
