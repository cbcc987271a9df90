//! From etcd's key-values to what happened to the instances of one service in one dialect.

use std::sync::{Arc, Once};

use etcd_client::KeyValue;

use super::{
    keys::Keys,
    list::{BOUND, Range, Read, What, for_each, range},
    members::{Connection, Failure},
    watch::Watched,
};
use crate::{
    Instance, Revision, ServiceName, Undecodable,
    dialect::{DecodeError, Dialect},
};

/// Reads the key-values of one service in one dialect.
#[derive(Debug)]
pub(super) struct Reader {
    service: ServiceName,
    keys: Keys,
    dialect: Dialect,
    /// What the service's keys begin with.
    prefix: String,
    undecodable: Undecodable,
    /// The store's warning of names that go on where another's ends.
    nested: Arc<Once>,
}

/// What has happened to the instances of one service in one dialect.
#[derive(Debug)]
pub(super) struct Said {
    /// The revision after it.
    pub(super) revision: Revision,
    /// What it was, in order.
    pub(super) events: Vec<Event>,
}

/// What has happened to keys. More than one may describe the same instance.
#[derive(Debug)]
pub(super) enum Event {
    /// These are all that there are.
    Listed(Vec<(Arc<str>, Arc<Instance>)>),
    /// This one describes that instance now.
    Put(Arc<str>, Arc<Instance>),
    /// This one describes none now, if it did before.
    Gone(Arc<str>),
}

impl Watched for Reader {
    type Said = Said;

    fn range(&self) -> Range {
        range(&self.prefix)
    }

    /// All instances as they are now.
    async fn list(
        &self,
        connection: &Connection,
        mut found: impl FnMut(&KeyValue) + Send,
    ) -> Result<(Read, Said), Failure> {
        let mut instances = Vec::new();
        let read = for_each(connection, What::Prefix(&self.prefix), BOUND, |kv| {
            found(kv);
            instances.extend(self.instance(kv));
        });
        let read = read.await?;
        let said = Said {
            revision: revision(read.revision),
            events: vec![Event::Listed(instances)],
        };
        Ok((read, said))
    }

    fn said(&self, written: &[&KeyValue], revision: Revision) -> Option<Said> {
        let events: Vec<_> = written.iter().filter_map(|kv| self.event(kv)).collect();
        (!events.is_empty()).then_some(Said { revision, events })
    }
}

impl Reader {
    /// A reader of one of the dialects that `keys` have.
    pub(super) fn new(
        service: ServiceName,
        keys: Keys,
        dialect: Dialect,
        undecodable: Undecodable,
        nested: Arc<Once>,
    ) -> Self {
        let prefix = keys.service(&dialect, &service);
        Self {
            service,
            keys,
            dialect,
            prefix,
            undecodable,
            nested,
        }
    }

    /// The dialect that it reads.
    pub(super) fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// What the service's keys begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The instance in a key-value, with the key; `None` for what belongs to another service, and for what cannot be read,
    /// which is counted.
    fn instance(&self, kv: &KeyValue) -> Option<(Arc<str>, Arc<Instance>)> {
        match self.decode(&self.dialect, &self.prefix, kv) {
            Ok(instance) => {
                let key: Arc<str> = String::from_utf8_lossy(kv.key()).into();
                let instance = instance.read_at(Arc::clone(&key), revision(kv.mod_revision()));
                Some((key, Arc::new(instance)))
            }
            Err(DecodeError::AnotherService) => {
                self.warn_of_another(kv);
                None
            }
            Err(reason) => {
                if !self.is_in_another_dialect(kv) {
                    let key = String::from_utf8_lossy(kv.key());
                    self.undecodable.skip(&key, kv.mod_revision(), &reason);
                }
                None
            }
        }
    }

    /// What an event does to the service's instances. What can be read no more is not there for whoever lists, and so for
    /// whoever watches.
    fn event(&self, kv: &KeyValue) -> Option<Event> {
        // A deletion has no version, and no value.
        if kv.version() > 0
            && let Some((key, instance)) = self.instance(kv)
        {
            return Some(Event::Put(key, instance));
        }
        let key = str::from_utf8(kv.key()).ok()?;
        Some(Event::Gone(key.into()))
    }

    fn decode(
        &self,
        dialect: &Dialect,
        prefix: &str,
        kv: &KeyValue,
    ) -> Result<Instance, DecodeError> {
        let suffix = kv.key().strip_prefix(prefix.as_bytes());
        let suffix = suffix.ok_or(DecodeError::AnotherService)?;
        dialect.decode(&self.service, suffix, kv.value())
    }

    /// Whether it is an instance to one of the other dialects: several may have their keys at the same place.
    fn is_in_another_dialect(&self, kv: &KeyValue) -> bool {
        let others = self.keys.dialects().iter();
        let mut others = others.filter(|other| other.name() != self.dialect.name());
        others.any(|other| {
            let prefix = self.keys.service(other, &self.service);
            self.decode(other, &prefix, kv).is_ok()
        })
    }

    /// etcd's own Go clients, which look no further than the prefix, take another service's instance for one of this; so
    /// do those of several other systems.
    fn warn_of_another(&self, kv: &KeyValue) {
        let service = &self.service;
        let Some(other) = self.keys.service_of(&self.dialect, kv.key()) else {
            return;
        };
        let goes_on = other.as_str().strip_prefix(service.as_str());
        if goes_on.is_some_and(|rest| rest.starts_with('/')) {
            self.nested.call_once(|| {
                tracing::warn!(%service, %other, "a service's name begins with another's and a '/': Go callers of the shorter one call the instances of both");
            });
        }
    }
}

/// etcd's revisions begin at 1.
pub(super) fn revision(revision: i64) -> Revision {
    Revision(revision.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use testkit::etcd::Cluster;

    use super::{Arc, Dialect, Keys, Once, Reader, ServiceName, Undecodable, Watched};
    use crate::{
        Address,
        backend::etcd::members::Members,
        dialect::{DialectName, Dialects},
    };

    #[tokio::test]
    async fn a_name_that_goes_on_where_another_ends_is_worth_a_warning() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        let members = Members::new(vec![endpoint]);
        let connection = members.connection().await.expect("a connection");
        for (dialect, quiet, other) in [
            (
                DialectName::Etcd,
                &["eu/shop/1", "eu/shopping/1", "eu/shop/_own/1"][..],
                "eu/shop/basket/1",
            ),
            (
                DialectName::Plain,
                &["eu/shop", "eu/shop-2/1", "eu/shop-2"],
                "eu/shop/basket/1",
            ),
            (
                DialectName::Kitex,
                &["eu/kitex/registry-etcd/shop/1"],
                "eu/kitex/registry-etcd/shop/basket/1",
            ),
        ] {
            let namespace = ServiceName::new("eu").expect("a name");
            let dialects = Dialects::new([dialect]).expect("a dialect");
            let reader = Reader::new(
                ServiceName::new("shop").expect("a name"),
                Keys::new(Some(&namespace), dialects),
                Dialect::from(dialect),
                Undecodable::default(),
                Arc::new(Once::new()),
            );
            let warned_after = async |key: &str| {
                let put = cluster.etcdctl(&["put", key, r#"{"address":"a:1"}"#]).await;
                put.expect("it is put");
                let listed = reader.list(&connection, |_| ()).await;
                listed.expect("a list");
                reader.nested.is_completed()
            };
            for key in quiet {
                assert!(!warned_after(key).await, "{key}");
            }
            assert!(warned_after(other).await, "{other}");
            let all = cluster.etcdctl(&["del", "--prefix", "eu/"]).await;
            all.expect("they are deleted");
        }
    }
}
