//! What the owner of a key knows of it: a keep-alive does not notice that a key was deleted or taken.

use std::sync::Arc;

use etcd_client::KeyValue;
use tokio::sync::watch;

use super::{
    group::Granted,
    keys::Keys,
    members::{Connection, Failure},
};
use crate::{Incarnation, Loss, ServiceName};

/// A key that is ours as long as it has our lease.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) keys: Keys,
    pub(super) service: ServiceName,
    pub(super) lease: i64,
    pub(super) holder: Option<Incarnation>,
    pub(super) granted: Arc<Granted>,
    /// The revision at which it was last known to be ours.
    pub(super) known: i64,
    /// The revision of our newest put that was seen.
    pub(super) written: i64,
    /// Tells the hold when it is lost.
    pub(super) tell: watch::Sender<Option<Loss>>,
}

impl Place {
    /// Takes note of what is at the key as of `revision`, and tells the hold when that is not its own any more.
    pub(super) fn see(&mut self, revision: i64, found: Option<&KeyValue>) {
        self.known = revision;
        if let Some(loss) = self.judge(found) {
            self.lose(&loss);
        }
    }

    /// Tells the hold of its loss, unless it has been told of one.
    pub(super) fn lose(&self, loss: &Loss) {
        self.tell.send_if_modified(|told| {
            let is_news = told.is_none();
            told.get_or_insert_with(|| loss.clone());
            is_news
        });
    }

    fn judge(&mut self, found: Option<&KeyValue>) -> Option<Loss> {
        let Some(kv) = found else {
            return Some(Loss::Deleted("its key is gone".into()));
        };
        // Whoever's lease it has: one that lived when the backup was made may live still.
        if kv.mod_revision() < self.written {
            return Some(Loss::Gone(
                "its key is older than what we have put there: a backup was restored".into(),
            ));
        }
        if kv.lease() == self.lease {
            self.written = kv.mod_revision();
            return None;
        }
        let holder = Holder::of(&self.keys, &self.service, kv);
        // Most dialects do not say who holds. A lease of this process's own may be that of a late write of our own; whoever
        // claims the key again finds out.
        let is_ours = match holder.incarnation {
            Some(incarnation) => Some(incarnation) == self.holder,
            None => self.granted.knows(kv.lease()),
        };
        Some(if is_ours {
            Loss::Gone("another of this process's own holds has taken its key".into())
        } else {
            Loss::Superseded(holder.text)
        })
    }
}

/// Who holds a key, as far as its value tells.
pub(super) struct Holder {
    pub(super) incarnation: Option<Incarnation>,
    pub(super) text: String,
}

impl Holder {
    pub(super) fn of(keys: &Keys, service: &ServiceName, kv: &KeyValue) -> Self {
        let instance = keys.read(service, kv.key(), kv.value());
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
    let asked = connection.ask(client.get(key.as_str(), None)).await;
    let mut answer = asked.map_err(|failure| failure.about(&key))?;
    let revision = connection.revision(answer.header())?;
    Ok((revision, answer.take_kvs().pop()))
}
