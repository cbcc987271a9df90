//! The key of a hold, watched by its owner: a keep-alive does not notice that the key was deleted or taken.

use std::{sync::Arc, time::Duration};

use etcd_client::{KeyValue, WatchOptions};
use tokio::{select, sync::Notify, time::sleep};

use super::{
    members::{Connection, Failure, Members},
    watching::Watching,
};
use crate::{
    Backoff, BackoffPolicy, Incarnation, InstanceId, Loss, ServiceName, dialect::etcd as dialect,
};

/// A key that is ours as long as it has our lease.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) members: Arc<Members>,
    pub(super) key: String,
    pub(super) service: ServiceName,
    pub(super) id: InstanceId,
    pub(super) lease: i64,
    pub(super) holder: Option<Incarnation>,
    /// The revision at which it was last known to be ours.
    pub(super) known: i64,
    /// The revision of our newest put that was seen.
    pub(super) written: i64,
    /// After which silence to look whether something was missed.
    pub(super) quiet: Duration,
    /// Told by whoever has reason to think that something was.
    pub(super) doubt: Arc<Notify>,
}

impl Place {
    /// Ends when the key is not ours any more. For as long as etcd cannot be reached it goes on trying: when that is
    /// too long is the lease's business.
    pub(super) async fn lost(mut self) -> Loss {
        let mut backoff = Backoff::new(BackoffPolicy {
            initial: Duration::from_millis(20),
            max: Duration::from_secs(1),
            multiplier: 1.6,
            jitter: 0.2,
        });
        loop {
            let followed = match self.members.connection().await {
                Ok(connection) => {
                    let followed = self.follow(&connection).await;
                    if followed.is_err() {
                        self.members.leave(&connection);
                    }
                    followed
                }
                Err(failure) => Err(failure),
            };
            match followed {
                Ok(loss) => return loss,
                Err(failure) => {
                    tracing::debug!(key = self.key, %failure, "the watch of a held key broke");
                }
            }
            sleep(backoff.next_delay()).await;
            // A watch that breaks may have missed anything.
            match self.look().await {
                Ok(Some(loss)) => return loss,
                Ok(None) => {}
                Err(failure) => {
                    tracing::debug!(key = self.key, %failure, "a held key cannot be read");
                }
            }
        }
    }

    /// Watches from what is known on. A watch that is stuck is as silent as one with nothing to say: a look decides.
    async fn follow(&mut self, connection: &Connection) -> Result<Loss, Failure> {
        let options = WatchOptions::new();
        let mut watching =
            Watching::open(connection, self.key.as_str(), options, self.known).await?;
        loop {
            let message = select! {
                message = watching.next(connection) => Some(message?),
                () = self.doubt.notified() => None,
                () = sleep(self.quiet) => None,
            };
            let Some(message) = message else {
                match self.look().await? {
                    Some(loss) => return Ok(loss),
                    None => continue,
                }
            };
            for kv in message.events().iter().filter_map(|event| event.kv()) {
                self.known = self.known.max(kv.mod_revision());
                // A deletion has no version, and no value.
                let there = (kv.version() > 0).then_some(kv);
                if let Some(loss) = self.judge(there) {
                    return Ok(loss);
                }
            }
        }
    }

    /// Reads the key as it is now.
    async fn look(&mut self) -> Result<Option<Loss>, Failure> {
        let (members, key) = (Arc::clone(&self.members), self.key.clone());
        let (revision, found) = members
            .call(|connection| read(connection, key.clone()))
            .await?;
        self.known = revision;
        Ok(self.judge(found.as_ref()))
    }

    fn judge(&mut self, found: Option<&KeyValue>) -> Option<Loss> {
        let Some(kv) = found else {
            return Some(Loss::Gone("its key is gone".into()));
        };
        if kv.lease() == self.lease {
            self.written = self.written.max(kv.mod_revision());
            return None;
        }
        if kv.mod_revision() < self.written {
            return Some(Loss::Gone(
                "its key is older than what we have put there: a backup was restored".into(),
            ));
        }
        let holder = Holder::of(&self.service, &self.id, kv);
        Some(
            if holder.incarnation.is_some() && holder.incarnation == self.holder {
                Loss::Gone("another of this process's own holds has taken its key".into())
            } else {
                Loss::Superseded(holder.text)
            },
        )
    }
}

/// Who holds a key, as far as its value tells.
pub(super) struct Holder {
    pub(super) incarnation: Option<Incarnation>,
    pub(super) text: String,
}

impl Holder {
    pub(super) fn of(service: &ServiceName, id: &InstanceId, kv: &KeyValue) -> Self {
        let instance = dialect::decode(service, id.clone(), kv.value()).ok();
        let incarnation = instance.as_ref().and_then(|instance| instance.incarnation);
        let text = match (&instance, incarnation) {
            (Some(instance), Some(incarnation)) => {
                format!("{} of incarnation {incarnation}", instance.address())
            }
            (Some(instance), None) => format!("{}, of other software", instance.address()),
            (None, _) => "a value that is no instance".to_owned(),
        };
        Self { incarnation, text }
    }
}

/// The key-value at `key` as it is now, read linearizably, and at which revision that is.
pub(super) async fn read(
    connection: Connection,
    key: String,
) -> Result<(i64, Option<KeyValue>), Failure> {
    let mut client = connection.client.clone();
    let mut answer = connection.ask(client.get(key, None)).await?;
    let revision = connection.revision(answer.header())?;
    Ok((revision, answer.take_kvs().pop()))
}

#[cfg(test)]
mod tests {
    use testkit::etcd::Cluster;
    use tokio::time::timeout;

    use super::{Arc, Duration, Loss, Members, Notify, Place};
    use crate::{Address, InstanceId, ServiceName};

    /// The place of a lease that was lost before the watch of its key began, which has nothing to say of it.
    fn place(cluster: &Cluster, quiet: Duration, doubt: &Arc<Notify>) -> Place {
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        Place {
            members: Arc::new(Members::new(vec![endpoint])),
            key: "greeter/a".into(),
            service: ServiceName::new("greeter").expect("a name"),
            id: InstanceId::new("a").expect("an id"),
            lease: 7,
            holder: None,
            known: 2,
            written: 1,
            quiet,
            doubt: Arc::clone(doubt),
        }
    }

    #[tokio::test]
    async fn an_owner_whose_watch_is_silent_looks_for_itself_after_a_while_and_when_in_doubt() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let taken = cluster.etcdctl(&["put", "greeter/a", "x"]).await;
        taken.expect("it is put, at revision 2");
        let doubt = Arc::default();
        let (short, long) = (Duration::from_millis(100), Duration::from_hours(1));
        let patient = tokio::spawn(place(&cluster, long, &doubt).lost());
        let bound = Duration::from_secs(20);
        let impatient = Box::pin(place(&cluster, short, &Arc::default()).lost());
        let superseded = Loss::Superseded("a value that is no instance".into());
        assert_eq!(timeout(bound, impatient).await, Ok(superseded.clone()));
        assert!(!patient.is_finished(), "nobody has told it to look");
        doubt.notify_one();
        let lost = timeout(bound, patient).await.expect("it looks");
        assert_eq!(lost.expect("no panic"), superseded);
    }
}
