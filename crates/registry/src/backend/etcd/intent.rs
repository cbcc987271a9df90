//! What operators want of a service's instances: one key for each, without a lease.

use std::{future::ready, mem};

use etcd_client::KeyValue;
use futures_util::{Stream, StreamExt};

use super::{
    list::{BOUND, Range, Read, What, for_each, range},
    members::{Connection, Failure, Members},
    reader::revision,
    watch::Watched,
};
use crate::{InstanceId, Intent, Intents, Revision, Undecodable};

/// Where the intents for the instances of one service are.
#[derive(Debug)]
pub(super) struct IntentKeys {
    /// What their keys begin with; the instance's id follows.
    pub(super) prefix: String,
    pub(super) undecodable: Undecodable,
}

/// What the keys say.
#[derive(Debug)]
pub(super) enum Said {
    /// These are all there are.
    All(Intents),
    /// As of this revision, this is wanted of these instances; of those with `None`, nothing any more.
    Changed(Revision, Vec<(InstanceId, Option<Intent>)>),
}

impl IntentKeys {
    /// All intents, as they are now.
    pub(super) async fn list(&self, members: &Members) -> Result<Intents, Failure> {
        let listed =
            members.call(async |connection: Connection| self.read(&connection, |_| ()).await);
        Ok(listed.await?.1)
    }

    async fn read(
        &self,
        connection: &Connection,
        mut found: impl FnMut(&KeyValue) + Send,
    ) -> Result<(Read, Intents), Failure> {
        let mut intents = Intents::default();
        let read = for_each(connection, What::Prefix(&self.prefix), BOUND, |kv| {
            found(kv);
            if let Some((id, intent)) = self.intent(kv) {
                intents.set(id, intent);
            }
        });
        let read = read.await?;
        Ok((read, intents.read_at(revision(read.revision))))
    }

    /// What is wanted of which instance; `None` for the key of another service, and for one that is nobody's, which is
    /// counted.
    fn intent(&self, kv: &KeyValue) -> Option<(InstanceId, Option<Intent>)> {
        let id = kv.key().strip_prefix(self.prefix.as_bytes())?;
        // Another service's: the name goes on.
        if id.contains(&b'/') {
            return None;
        }
        let key = String::from_utf8_lossy(kv.key());
        let skip = |reason: &dyn std::fmt::Display| {
            self.undecodable.skip(&key, kv.mod_revision(), reason);
        };
        let id = InstanceId::new(&String::from_utf8_lossy(id));
        let id = id.inspect_err(|reason| skip(reason)).ok()?;
        // A deletion has no version, and no value.
        let written = (kv.version() > 0).then(|| Intent::from_json(kv.value()));
        // What can be read no more is not there for whoever lists, and so for whoever watches.
        let read = written.and_then(|intent| intent.inspect_err(|reason| skip(reason)).ok());
        let intent = read.map(|intent| intent.read_at(&*key, revision(kv.mod_revision())));
        Some((id, intent))
    }
}

impl Watched for IntentKeys {
    type Said = Said;

    fn range(&self) -> Range {
        range(&self.prefix)
    }

    async fn list(
        &self,
        connection: &Connection,
        found: impl FnMut(&KeyValue) + Send,
    ) -> Result<(Read, Said), Failure> {
        let (read, intents) = self.read(connection, found).await?;
        Ok((read, Said::All(intents)))
    }

    fn said(&self, written: &[&KeyValue], revision: Revision) -> Option<Said> {
        let changed: Vec<_> = written.iter().filter_map(|kv| self.intent(kv)).collect();
        (!changed.is_empty()).then_some(Said::Changed(revision, changed))
    }
}

/// All intents, after each thing that was said.
pub(super) fn gathered(
    said: impl Stream<Item = Result<Said, Failure>>,
) -> impl Stream<Item = Result<Intents, Failure>> {
    said.scan(Intents::default(), |all, said| {
        let now = said.map(|said| {
            match said {
                Said::All(intents) => *all = intents,
                Said::Changed(revision, changed) => {
                    *all = mem::take(all).read_at(revision);
                    for (id, intent) in changed {
                        all.set(id, intent);
                    }
                }
            }
            all.clone()
        });
        ready(Some(now))
    })
}
