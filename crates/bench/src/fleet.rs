//! A registry in memory with very many instances, all of which are one server at another loopback address each.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use registry::{
    Address, Claim, Hold, HoldRequest, Instance, Registry, ServiceName, SnapshotWatch, Store as _,
    Weight, backend::memory::MemoryStore,
};
use tokio::time::timeout;

/// The registry, and the places of its instances.
pub(crate) struct Fleet {
    pub(crate) registry: Registry,
    members: Vec<Member>,
}

struct Member {
    instance: Instance,
    hold: Box<dyn Hold>,
}

impl Fleet {
    /// What the instances are instances of.
    pub(crate) const SERVICE: &str = "greeter";

    /// Registers `count` instances: 127.1.0.0, 127.1.0.1 and so on, all at `port`.
    pub(crate) async fn register(count: u32, port: u16) -> Result<Self> {
        let store = MemoryStore::new();
        let service = ServiceName::new(Self::SERVICE)?;
        let mut members = Vec::new();
        for number in 0..count {
            let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + number);
            let address = Address::new(&format!("{address}:{port}"))?;
            let instance = Instance::new(service.clone(), address);
            let request = HoldRequest {
                instance: instance.clone(),
                ttl: Duration::from_secs(10),
                claim: Claim::First,
            };
            let hold = store.hold(request).await?;
            members.push(Member { instance, hold });
        }
        Ok(Self {
            registry: Registry::new(store),
            members,
        })
    }

    /// Follows the service, and returns when all instances are seen.
    pub(crate) async fn watch(&self) -> Result<SnapshotWatch> {
        let mut watch = self.registry.watch(&ServiceName::new(Self::SERVICE)?);
        let all = async {
            while watch
                .view()
                .snapshot
                .is_none_or(|s| s.len() < self.members.len())
            {
                watch.changed().await;
            }
        };
        timeout(Duration::from_mins(1), all)
            .await
            .context("the registry did not tell of all instances within 60 s")?;
        Ok(watch)
    }

    /// Gives the instance at `place` another weight.
    pub(crate) async fn reweigh(&mut self, place: usize) -> Result<()> {
        let members = self.members.len();
        let member = &mut self.members[place % members];
        let weight = member.instance.weight.get() % 100 + 1;
        member.instance.weight = Weight::new(weight)?;
        Ok(member.hold.update(member.instance.clone()).await?)
    }
}
