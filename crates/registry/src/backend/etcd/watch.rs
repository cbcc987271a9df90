//! Following the keys of a service, or that of a document: a list, then a watch from the revision after it, on one connection.
//!
//! Nothing is resumed on another connection: after a wipe, cluster and member ids are the same, and a watch from an old
//! revision is accepted and delivers nothing. When anything fails the stream ends with the reason; whoever starts
//! another lists again, at the next member.
//!
//! After a silence a linearizable read decides whether there was nothing to say. A progress answer would prove nothing:
//! a watch that is stuck gives one too. HTTP/2 pings notice a dead member much sooner.

use std::{fmt, sync::Arc, time::Duration};

use etcd_client::{KeyValue, WatchOptions, WatchResponse};
use futures_util::{Stream, stream};
use tokio::time::timeout;

use super::{
    list::{Read, changed_after},
    members::{Connection, Failure, Members},
    reader::revision,
    watching::Watching,
};
use crate::Revision;

/// How long what a read has seen may still be on its way to the watch.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// What can be followed: a range of keys, and what they say.
pub(super) trait Watched: fmt::Debug + Send + Sync + 'static {
    type Said: Send;

    /// The first key, and what comes after the last.
    fn range(&self) -> (Vec<u8>, Vec<u8>);

    /// What they say now, by a linearizable read.
    fn list(
        &self,
        connection: &Connection,
    ) -> impl Future<Output = Result<(Read, Self::Said), Failure>> + Send;

    /// What key-values say that were written or deleted one after another, if anything.
    fn said(&self, written: &[&KeyValue], revision: Revision) -> Option<Self::Said>;
}

/// Follows `watched`.
pub(super) fn watch<W: Watched>(
    members: Arc<Members>,
    watched: W,
    quiet: Duration,
) -> impl Stream<Item = Result<W::Said, Failure>> {
    stream::try_unfold(State::Start(members, watched, quiet), State::next)
}

enum State<W> {
    Start(Arc<Members>, W, Duration),
    Following(Arc<Members>, Box<Following<W>>),
}

impl<W: Watched> State<W> {
    async fn next(self) -> Result<Option<(W::Said, Self)>, Failure> {
        match self {
            Self::Start(members, watched, quiet) => {
                let connection = members.connection().await?;
                let started = Following::start(connection.clone(), watched, quiet).await;
                let (said, following) = started.inspect_err(|_| members.leave(&connection))?;
                Ok(Some((said, Self::Following(members, Box::new(following)))))
            }
            Self::Following(members, mut following) => {
                let next = following.next().await;
                let said = next.inspect_err(|_| members.leave(&following.connection))?;
                Ok(Some((said, Self::Following(members, following))))
            }
        }
    }
}

struct Following<W> {
    connection: Connection,
    watched: W,
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

impl<W: Watched> Following<W> {
    async fn start(
        connection: Connection,
        watched: W,
        quiet: Duration,
    ) -> Result<(W::Said, Self), Failure> {
        let (read, said) = watched.list(&connection).await?;
        let (from, end) = watched.range();
        let options = WatchOptions::new().with_range(end).with_fragment();
        let watching = Watching::open(&connection, from, options, read.revision).await?;
        let following = Self {
            connection,
            watched,
            watching,
            delivered: read.revision,
            count: read.count,
            quiet,
            suspicious: false,
        };
        Ok((said, following))
    }

    async fn next(&mut self) -> Result<W::Said, Failure> {
        loop {
            let patience = if self.suspicious {
                ON_ITS_WAY
            } else {
                self.quiet
            };
            match timeout(patience, self.watching.next(&self.connection)).await {
                Ok(message) => {
                    if let Some(said) = self.read(&message?) {
                        return Ok(said);
                    }
                }
                Err(_) => self.doubt().await?,
            }
        }
    }

    /// What a message says, if anything.
    fn read(&mut self, message: &WatchResponse) -> Option<W::Said> {
        let events = message.events().iter();
        let written: Vec<_> = events.filter_map(|event| event.kv()).collect();
        for kv in &written {
            self.delivered = self.delivered.max(kv.mod_revision());
            self.suspicious = false;
            self.count += match kv.version() {
                0 => -1,
                1 => 1,
                _ => 0,
            };
        }
        // The header's revision may be ahead of events that come in a later message.
        self.watched.said(&written, revision(self.delivered))
    }

    /// Compares what was delivered with what is there, after a silence.
    async fn doubt(&mut self) -> Result<(), Failure> {
        let (read, changed) =
            changed_after(&self.connection, self.watched.range(), self.delivered).await?;
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

    use super::{Arc, Connection, Duration, Following, Members, Watched};
    use crate::{
        Address, ServiceName, Undecodable,
        backend::etcd::{document::DocumentKey, reader::Reader},
    };

    async fn connection(cluster: &Cluster) -> Connection {
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        Members::new(vec![endpoint])
            .connection()
            .await
            .expect("a connection")
    }

    async fn following<W: Watched>(connection: &Connection, watched: W) -> Following<W> {
        let quiet = Duration::from_millis(10);
        let started = Following::start(connection.clone(), watched, quiet).await;
        started.expect("a watch").1
    }

    /// Has three watches miss something, as if they had not heard of a deletion, of a change, or of a wipe.
    async fn each_ends<W: Watched>(connection: &Connection, watched: impl Fn() -> W) {
        let (mut deletion, mut change, mut wipe) = (
            following(connection, watched()).await,
            following(connection, watched()).await,
            following(connection, watched()).await,
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
            let error = ended.err().expect("it cannot go on").to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[tokio::test]
    async fn a_watch_of_a_service_that_has_missed_something_ends() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let put = cluster.etcdctl(&["put", "greeter/a", "x"]).await;
        put.expect("it is put");
        let service = || Reader {
            service: ServiceName::new("greeter").expect("a name"),
            prefix: "greeter/".into(),
            undecodable: Undecodable::default(),
            nested: Arc::new(Once::new()),
        };
        Box::pin(each_ends(&connection(&cluster).await, service)).await;
    }

    #[tokio::test]
    async fn a_watch_of_a_document_that_has_missed_something_ends() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let key = "_service_config/greeter";
        let put = cluster.etcdctl(&["put", key, "{}"]).await;
        put.expect("it is put");
        let document = || DocumentKey(key.into());
        Box::pin(each_ends(&connection(&cluster).await, document)).await;
    }
}
