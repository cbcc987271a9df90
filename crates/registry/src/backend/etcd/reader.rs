//! From etcd's key-values to what happened to the instances of one service.

use std::sync::{Arc, Once};

use etcd_client::KeyValue;

use super::{
    list::{BOUND, Range, Read, What, for_each, range},
    members::{Connection, Failure},
    watch::Watched,
};
use crate::{
    Change, Instance, Revision, ServiceName, Undecodable, Update,
    dialect::etcd::{self as dialect, Suffix},
};

/// Reads the key-values of one service.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) service: ServiceName,
    /// What the service's keys begin with.
    pub(super) prefix: String,
    pub(super) undecodable: Undecodable,
    /// The store's warning of names that go on where another's ends.
    pub(super) nested: Arc<Once>,
}

impl Watched for Reader {
    type Said = Change;

    fn range(&self) -> Range {
        range(&self.prefix)
    }

    /// All instances as they are now, as a reset.
    async fn list(
        &self,
        connection: &Connection,
        mut found: impl FnMut(&KeyValue) + Send,
    ) -> Result<(Read, Change), Failure> {
        let mut instances = Vec::new();
        let read = for_each(connection, What::Prefix(&self.prefix), BOUND, |kv| {
            found(kv);
            instances.extend(self.instance(kv));
        });
        let read = read.await?;
        let change = Change {
            revision: revision(read.revision),
            updates: vec![Update::Reset(instances)],
        };
        Ok((read, change))
    }

    fn said(&self, written: &[&KeyValue], revision: Revision) -> Option<Change> {
        let updates: Vec<_> = written.iter().filter_map(|kv| self.update(kv)).collect();
        (!updates.is_empty()).then_some(Change { revision, updates })
    }
}

impl Reader {
    /// The instance in a key-value; `None` for what belongs to another service, and for what cannot be read, which is
    /// counted.
    fn instance(&self, kv: &KeyValue) -> Option<Arc<Instance>> {
        let id = match self.suffix(kv) {
            Suffix::Instance(id) => id,
            Suffix::Deeper => {
                self.warn_of_another(kv);
                return None;
            }
            Suffix::Invalid(reason) => {
                self.skip(kv, &reason);
                return None;
            }
        };
        match dialect::decode(&self.service, id, kv.value()) {
            Ok(instance) => {
                let key = String::from_utf8_lossy(kv.key());
                Some(Arc::new(instance.read_at(key, revision(kv.mod_revision()))))
            }
            Err(reason) => {
                self.skip(kv, &reason);
                None
            }
        }
    }

    /// What an event does to the service's instances.
    fn update(&self, kv: &KeyValue) -> Option<Update> {
        // A deletion has no version, and no value: only the key tells which instance it is.
        if kv.version() > 0
            && let Some(instance) = self.instance(kv)
        {
            return Some(Update::Upsert(instance));
        }
        // What can be read no more is not there for whoever lists, and so for whoever watches.
        match self.suffix(kv) {
            Suffix::Instance(id) => Some(Update::Remove(id)),
            Suffix::Deeper | Suffix::Invalid(_) => None,
        }
    }

    fn suffix(&self, kv: &KeyValue) -> Suffix {
        let below = kv.key().strip_prefix(self.prefix.as_bytes());
        below.map_or(Suffix::Deeper, dialect::suffix)
    }

    /// etcd's own Go clients, which look no further than the prefix, take another service's instance for one of this.
    fn warn_of_another(&self, kv: &KeyValue) {
        let below = kv.key().strip_prefix(self.prefix.as_bytes());
        let whole = |below| [dialect::prefix(&self.service).as_bytes(), below].concat();
        let Some(other) = below.and_then(|below| dialect::service_of(&whole(below))) else {
            return;
        };
        self.nested.call_once(|| {
            let service = &self.service;
            tracing::warn!(%service, %other, "a service's name begins with another's and a '/': Go callers of the shorter one call the instances of both");
        });
    }

    fn skip(&self, kv: &KeyValue, reason: &dyn std::fmt::Display) {
        let key = String::from_utf8_lossy(kv.key());
        self.undecodable.skip(&key, kv.mod_revision(), reason);
    }
}

/// etcd's revisions begin at 1.
pub(super) fn revision(revision: i64) -> Revision {
    Revision(revision.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use testkit::etcd::Cluster;

    use super::{Arc, Once, Reader, ServiceName, Undecodable, Watched};
    use crate::{Address, backend::etcd::members::Members};

    #[tokio::test]
    async fn a_name_that_goes_on_where_another_ends_is_worth_a_warning() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        let members = Members::new(vec![endpoint]);
        let connection = members.connection().await.expect("a connection");
        let reader = Reader {
            service: ServiceName::new("shop").expect("a name"),
            prefix: "eu/shop/".into(),
            undecodable: Undecodable::default(),
            nested: Arc::new(Once::new()),
        };
        let warned_after = async |key| {
            let put = cluster.etcdctl(&["put", key, "{}"]).await;
            put.expect("it is put");
            let listed = reader.list(&connection, |_| ()).await;
            listed.expect("a list");
            reader.nested.is_completed()
        };
        for key in ["eu/shop/1", "eu/shopping/1", "eu/shop/_own/1"] {
            assert!(!warned_after(key).await, "{key}");
        }
        assert!(warned_after("eu/shop/basket/1").await);
    }
}
