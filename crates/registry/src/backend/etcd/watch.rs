//! Following a service: a list, then a watch from the revision after it, on one connection.
//!
//! Nothing is resumed on another connection: after a wipe, cluster and member ids are the same, and a watch from an old
//! revision is accepted and delivers nothing. When anything fails the stream ends with the reason; whoever starts
//! another lists again, at the next member.
//!
//! After a silence a linearizable read decides whether there was nothing to say. A progress answer would prove nothing:
//! a watch that is stuck gives one too. HTTP/2 pings notice a dead member much sooner.

use std::{sync::Arc, time::Duration};

use etcd_client::{WatchOptions, WatchResponse};
use futures_util::{TryStreamExt, stream, stream::BoxStream};
use tokio::time::timeout;

use super::{
    list::{changed_after, range},
    members::{Connection, Failure, Members},
    reader::{Reader, revision},
    watching::Watching,
};
use crate::{Change, StoreError};

/// How long what a read has seen may still be on its way to the watch.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// Follows the service of `reader`.
pub(super) fn watch(
    members: Arc<Members>,
    reader: Reader,
    quiet: Duration,
) -> BoxStream<'static, Result<Change, StoreError>> {
    let service = reader.service.clone();
    let changes = stream::try_unfold(State::Start(members, reader, quiet), State::next);
    Box::pin(changes.map_err(move |failure| StoreError::WatchFailed {
        service: service.clone(),
        source: failure.into(),
    }))
}

enum State {
    Start(Arc<Members>, Reader, Duration),
    Following(Arc<Members>, Box<Following>),
}

impl State {
    async fn next(self) -> Result<Option<(Change, Self)>, Failure> {
        match self {
            Self::Start(members, reader, quiet) => {
                let connection = members.connection().await?;
                let started = Following::start(connection.clone(), reader, quiet).await;
                let (change, following) = started.inspect_err(|_| members.leave(&connection))?;
                Ok(Some((
                    change,
                    Self::Following(members, Box::new(following)),
                )))
            }
            Self::Following(members, mut following) => {
                let next = following.next().await;
                let change = next.inspect_err(|_| members.leave(&following.connection))?;
                Ok(Some((change, Self::Following(members, following))))
            }
        }
    }
}

struct Following {
    connection: Connection,
    reader: Reader,
    watching: Watching,
    /// The newest revision that was delivered.
    delivered: i64,
    /// How many keys there are, by what was delivered.
    count: i64,
    /// After which silence to look whether something was missed.
    quiet: Duration,
    /// A read has seen what was not delivered.
    suspicious: bool,
}

impl Following {
    async fn start(
        connection: Connection,
        reader: Reader,
        quiet: Duration,
    ) -> Result<(Change, Self), Failure> {
        let (read, change) = reader.list(&connection).await?;
        let (_, end) = range(&reader.prefix);
        let options = WatchOptions::new().with_range(end).with_fragment();
        let watching = Watching::open(&connection, &reader.prefix, options, read.revision).await?;
        let following = Self {
            connection,
            reader,
            watching,
            delivered: read.revision,
            count: read.count,
            quiet,
            suspicious: false,
        };
        Ok((change, following))
    }

    async fn next(&mut self) -> Result<Change, Failure> {
        loop {
            let patience = if self.suspicious {
                ON_ITS_WAY
            } else {
                self.quiet
            };
            match timeout(patience, self.watching.next(&self.connection)).await {
                Ok(message) => {
                    if let Some(change) = self.read(&message?) {
                        return Ok(change);
                    }
                }
                Err(_) => self.doubt().await?,
            }
        }
    }

    /// What a message says of the service, if anything.
    fn read(&mut self, message: &WatchResponse) -> Option<Change> {
        let mut updates = Vec::new();
        for kv in message.events().iter().filter_map(|event| event.kv()) {
            self.delivered = self.delivered.max(kv.mod_revision());
            self.suspicious = false;
            self.count += match kv.version() {
                0 => -1,
                1 => 1,
                _ => 0,
            };
            updates.extend(self.reader.update(kv));
        }
        // The header's revision may be ahead of events that come in a later message.
        (!updates.is_empty()).then(|| Change {
            revision: revision(self.delivered),
            updates,
        })
    }

    /// Compares what was delivered with what is there, after a silence.
    async fn doubt(&mut self) -> Result<(), Failure> {
        let (read, changed) =
            changed_after(&self.connection, &self.reader.prefix, self.delivered).await?;
        if read.revision < self.delivered {
            return Err(self.connection.complaint(format!(
                "it went back from revision {} to {}",
                self.delivered, read.revision
            )));
        }
        let missed = changed || read.count != self.count;
        if missed && self.suspicious {
            return Err(self.connection.complaint("the watch has missed changes"));
        }
        self.suspicious = missed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Once;

    use testkit::etcd::Cluster;

    use super::{Arc, Connection, Duration, Following, Members, Reader};
    use crate::{Address, ServiceName, Undecodable};

    async fn connection(cluster: &Cluster) -> Connection {
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        Members::new(vec![endpoint])
            .connection()
            .await
            .expect("a connection")
    }

    async fn following(connection: &Connection) -> Following {
        let reader = Reader {
            service: ServiceName::new("greeter").expect("a name"),
            prefix: "greeter/".into(),
            undecodable: Undecodable::default(),
            nested: Arc::new(Once::new()),
        };
        let quiet = Duration::from_millis(10);
        let started = Following::start(connection.clone(), reader, quiet).await;
        started.expect("a watch").1
    }

    #[tokio::test]
    async fn a_watch_that_has_missed_something_ends() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        cluster
            .etcdctl(&["put", "greeter/a", "x"])
            .await
            .expect("it is put");
        let connection = connection(&cluster).await;
        // As if it had not heard of a deletion, of a change, or of a wipe.
        let (mut deletion, mut change, mut wipe) = (
            following(&connection).await,
            following(&connection).await,
            following(&connection).await,
        );
        deletion.count += 1;
        change.delivered -= 1;
        wipe.delivered += 1_000;
        let ended = async { tokio::join!(deletion.next(), change.next(), wipe.next()) };
        let bound = Duration::from_secs(20);
        let ended = tokio::time::timeout(bound, ended).await.expect("each ends");
        for (ended, says) in [
            (ended.0, "missed"),
            (ended.1, "missed"),
            (ended.2, "went back"),
        ] {
            let error = ended.expect_err("it cannot go on").to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
