//! Following the keys of a service, of the intents for it, or that of a document: a list, then a watch from the revision after
//! it, on one connection.
//!
//! Nothing is resumed on another connection: after a wipe, cluster and member ids are the same, and a watch from an old
//! revision is accepted and delivers nothing. When anything fails the stream ends with the reason; whoever starts
//! another lists again, at the next member. Only what a watch is found to have missed, though it goes on, is told without
//! an end: by starting anew in its place.

use std::{fmt, sync::Arc, time::Duration};

use etcd_client::{KeyValue, WatchResponse};
use futures_util::{Stream, stream};
use tokio::select;

use super::{
    events::Events,
    known::{Known, written},
    list::{Range, Read},
    members::{Connection, Failure, Members},
    reader::revision,
    reconcile::{Missed, Reconciler, Tally},
};
use crate::Revision;

/// What can be followed: a range of keys, and what they say.
pub(super) trait Watched: fmt::Debug + Send + Sync + 'static {
    type Said: Send;

    /// The first key, and what comes after the last.
    fn range(&self) -> Range;

    /// What they say now, by a linearizable read, which hands every key-value that it finds to `found` as well.
    fn list(
        &self,
        connection: &Connection,
        found: impl FnMut(&KeyValue) + Send,
    ) -> impl Future<Output = Result<(Read, Self::Said), Failure>> + Send;

    /// What key-values say that were written or deleted one after another, if anything.
    fn said(&self, written: &[&KeyValue], revision: Revision) -> Option<Self::Said>;
}

/// How a store follows what it is asked to.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) members: Arc<Members>,
    /// After which silence to look whether something was missed.
    pub(super) quiet: Duration,
    /// How often to compare what was told with what is there.
    pub(super) reconcile: Duration,
    pub(super) tally: Tally,
}

impl Terms {
    /// Follows `watched`.
    pub(super) fn follow<W: Watched>(
        &self,
        watched: W,
    ) -> impl Stream<Item = Result<W::Said, Failure>> + use<W> {
        stream::try_unfold(State::Start(self.clone(), watched), State::next)
    }
}

enum State<W> {
    Start(Terms, W),
    Following(Terms, Box<Following<W>>),
}

impl<W: Watched> State<W> {
    async fn next(mut self) -> Result<Option<(W::Said, Self)>, Failure> {
        loop {
            match self {
                Self::Start(terms, watched) => {
                    let connection = terms.members.connection().await?;
                    let started = Following::start(&terms, connection.clone(), watched).await;
                    let (said, following) =
                        started.inspect_err(|_| terms.members.leave(&connection))?;
                    return Ok(Some((said, Self::Following(terms, Box::new(following)))));
                }
                Self::Following(terms, mut following) => {
                    let next = following.next().await;
                    let next = next.inspect_err(|_| terms.members.leave(&following.connection));
                    match next? {
                        Ok(said) => return Ok(Some((said, Self::Following(terms, following)))),
                        Err(Missed) => self = Self::Start(terms, following.watched),
                    }
                }
            }
        }
    }
}

struct Following<W> {
    connection: Connection,
    watched: W,
    events: Events,
    reconciler: Reconciler,
    /// The newest revision that was told.
    told: i64,
}

impl<W: Watched> Following<W> {
    async fn start(
        terms: &Terms,
        connection: Connection,
        watched: W,
    ) -> Result<(W::Said, Self), Failure> {
        let range = watched.range();
        let mut known = Known::default();
        let found = |kv: &KeyValue| {
            known.take(kv.key(), written(kv));
        };
        let (read, said) = watched.list(&connection, found).await?;
        let events = Events::open(connection.clone(), range.clone(), read, terms.quiet).await?;
        let reconciler = Reconciler::new(
            connection.clone(),
            range,
            known,
            terms.reconcile,
            terms.tally.clone(),
        );
        let following = Self {
            connection,
            watched,
            events,
            reconciler,
            told: read.revision,
        };
        Ok((said, following))
    }

    async fn next(&mut self) -> Result<Result<W::Said, Missed>, Failure> {
        loop {
            let next = select! {
                message = self.events.next() => self.hear(&message?),
                turned = self.reconciler.turn() => turned?.map(|()| None),
            };
            if let Some(next) = next.transpose() {
                return Ok(next);
            }
        }
    }

    /// What a message says, if anything.
    fn hear(&mut self, message: &WatchResponse) -> Result<Option<W::Said>, Missed> {
        let events = message.events().iter();
        let told: Vec<_> = events.filter_map(|event| event.kv()).collect();
        self.reconciler.hear(&told)?;
        for kv in &told {
            self.told = self.told.max(kv.mod_revision());
        }
        Ok(self.watched.said(&told, revision(self.told)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Once;

    use testkit::etcd::Cluster;

    use super::{Arc, Connection, Duration, Following, Members, Tally, Terms, Watched};
    use crate::{
        Address, ServiceName, Undecodable,
        backend::etcd::{document::DocumentKey, keys::Keys, reader::Reader},
        dialect::{DialectName, Dialects},
    };

    async fn connection(cluster: &Cluster) -> Connection {
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        Members::new(vec![endpoint])
            .connection()
            .await
            .expect("a connection")
    }

    async fn following<W: Watched>(connection: &Connection, watched: W) -> Following<W> {
        let terms = Terms {
            members: Arc::new(Members::new(Vec::new())),
            quiet: Duration::from_millis(10),
            reconcile: Duration::from_hours(1),
            tally: Tally::default(),
        };
        let started = Following::start(&terms, connection.clone(), watched).await;
        started.expect("a watch").1
    }

    /// Has three terms miss something, as if they had not heard of a deletion, of a change, or of a wipe.
    async fn each_ends<W: Watched>(connection: &Connection, watched: impl Fn() -> W) {
        let (mut deletion, mut change, mut wipe) = (
            following(connection, watched()).await,
            following(connection, watched()).await,
            following(connection, watched()).await,
        );
        deletion.events.count += 1;
        change.events.delivered -= 1;
        wipe.events.delivered += 1_000;
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
        let service = || {
            Reader::new(
                ServiceName::new("greeter").expect("a name"),
                Keys::new(None, Dialects::default()),
                DialectName::Etcd.into(),
                Undecodable::default(),
                Arc::new(Once::new()),
            )
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
