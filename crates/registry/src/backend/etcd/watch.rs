//! Following the keys of a service, of the intents for it, or that of a document: a list and what comes after it, on one
//! connection.
//!
//! Nothing is resumed on another connection: after a wipe, cluster and member ids are the same, and a watch from an old
//! revision is accepted and delivers nothing. When anything fails the stream ends with the reason; whoever starts
//! another lists again, at the next member.

use std::{fmt, sync::Arc, time::Duration};

use etcd_client::KeyValue;
use futures_util::{Stream, stream};
use tokio::select;

use super::{
    events::Events,
    known::{Known, written},
    list::{Range, Read},
    members::{Connection, Failure, Members},
    reader::revision,
    reconcile::{Reconciler, Tally},
    shared::Shared,
    source::{Heard, Source},
    turns::Turns,
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
    pub(super) turns: Arc<Turns>,
    /// What is followed there is followed by one watch.
    pub(super) shared: Option<Arc<Shared>>,
}

impl Terms {
    /// Follows `watched`.
    pub(super) fn follow<W: Watched>(
        &self,
        watched: W,
    ) -> impl Stream<Item = Result<W::Said, Failure>> + use<W> {
        stream::try_unfold(State::Start(self.clone(), watched), State::next)
    }

    fn shared_by(&self, range: &Range) -> Option<&Arc<Shared>> {
        self.shared.as_ref().filter(|shared| shared.covers(range))
    }
}

enum State<W> {
    Start(Terms, W),
    Following(Box<Following<W>>),
}

impl<W: Watched> State<W> {
    async fn next(self) -> Result<Option<(W::Said, Self)>, Failure> {
        let (said, following) = match self {
            Self::Start(terms, watched) => {
                // In a box, as it takes 11 KiB, and is over soon.
                let (said, following) = Box::pin(Following::start(&terms, watched)).await?;
                (said, Box::new(following))
            }
            Self::Following(mut following) => (following.next().await?, following),
        };
        Ok(Some((said, Self::Following(following))))
    }
}

struct Following<W> {
    watched: W,
    source: Source,
    reconciler: Reconciler,
    /// The newest revision that was told.
    told: i64,
}

impl<W: Watched> Following<W> {
    async fn start(terms: &Terms, watched: W) -> Result<(W::Said, Self), Failure> {
        let (listed, source) = match terms.shared_by(&watched.range()) {
            None => Self::on_its_own(terms, &watched).await?,
            Some(shared) => Self::by_a_shared_watch(shared, &watched).await?,
        };
        let reconciler = Reconciler::new(
            Arc::clone(source.connection()),
            watched.range(),
            listed.known,
            terms.reconcile,
            terms.tally.clone(),
        );
        let following = Self {
            watched,
            source,
            reconciler,
            told: listed.read.revision,
        };
        Ok((listed.said, following))
    }

    /// First the list, then a watch of what comes after it.
    async fn on_its_own(terms: &Terms, watched: &W) -> Result<(Listed<W::Said>, Source), Failure> {
        let _turn = terms.turns.take().await;
        let members = &terms.members;
        let connection = Arc::new(members.connection().await?);
        let started = async {
            let listed = list(watched, &connection).await?;
            let range = watched.range();
            let events =
                Events::open(Arc::clone(&connection), range, listed.read, terms.quiet).await?;
            Ok((listed, Source::Own(Arc::clone(members), Box::new(events))))
        };
        started
            .await
            .inspect_err(|failure| members.leave(&connection, failure))
    }

    /// First the place among those who are told what happens, then the list.
    async fn by_a_shared_watch(
        shared: &Arc<Shared>,
        watched: &W,
    ) -> Result<(Listed<W::Said>, Source), Failure> {
        let joining = shared.join(watched.range()).await?;
        let listed = list(watched, joining.connection()).await;
        let listed = listed.inspect_err(|failure| joining.leave(failure))?;
        let part = joining.listed(listed.read.revision);
        Ok((listed, Source::Shared(part)))
    }

    async fn next(&mut self) -> Result<W::Said, Failure> {
        loop {
            let next = select! {
                heard = self.source.next() => {
                    let heard = heard?;
                    self.hear(&heard)
                }
                turned = self.reconciler.turn() => turned.map(|()| None),
            };
            let next = next.inspect_err(|failure| self.source.leave(failure))?;
            if let Some(next) = next {
                return Ok(next);
            }
        }
    }

    /// What was heard says, if anything.
    fn hear(&mut self, heard: &Heard) -> Result<Option<W::Said>, Failure> {
        let told = heard.told();
        self.reconciler.hear(&told)?;
        for kv in &told {
            self.told = self.told.max(kv.mod_revision());
        }
        Ok(self.watched.said(&told, revision(self.told)))
    }
}

/// What a list has found.
struct Listed<S> {
    read: Read,
    said: S,
    known: Known,
}

async fn list<W: Watched>(
    watched: &W,
    connection: &Connection,
) -> Result<Listed<W::Said>, Failure> {
    let mut known = Known::default();
    let found = |kv: &KeyValue| {
        known.take(kv.key(), written(kv));
    };
    let (read, said) = watched.list(connection, found).await?;
    Ok(Listed { read, said, known })
}

#[cfg(test)]
mod tests {
    use std::sync::Once;

    use testkit::etcd::Cluster;

    use super::{Arc, Duration, Events, Following, Members, Source, Tally, Terms, Watched};
    use crate::{
        Address, ServiceName, Undecodable,
        backend::etcd::{document::DocumentKey, keys::Keys, reader::Reader},
        dialect::{DialectName, Dialects},
    };

    fn terms(cluster: &Cluster) -> Terms {
        terms_of(Address::new(&cluster.endpoints()[0]).expect("an address"))
    }

    fn terms_of(member: Address) -> Terms {
        Terms {
            members: Arc::new(Members::new(vec![member])),
            quiet: Duration::from_millis(10),
            reconcile: Duration::from_hours(1),
            tally: Tally::default(),
            turns: Arc::default(),
            shared: None,
        }
    }

    async fn following<W: Watched>(terms: &Terms, watched: W) -> Following<W> {
        let started = Following::start(terms, watched).await;
        started.expect("a watch").1
    }

    /// The watch of its own that something is followed by.
    fn events<W>(following: &mut Following<W>) -> &mut Events {
        match &mut following.source {
            Source::Own(_, events) => events,
            Source::Shared(_) => panic!("nothing is shared here"),
        }
    }

    /// Has three watches miss something, as if they had not heard of a deletion, of a change, or of a wipe.
    async fn each_ends<W: Watched>(cluster: &Cluster, watched: impl Fn() -> W) {
        let terms = &terms(cluster);
        let (mut deletion, mut change, mut wipe) = (
            following(terms, watched()).await,
            following(terms, watched()).await,
            following(terms, watched()).await,
        );
        for following in [&mut deletion, &mut change, &mut wipe] {
            // Something has changed somewhere.
            events(following).checked -= 1;
        }
        events(&mut deletion).count += 1;
        events(&mut change).delivered -= 1;
        events(&mut wipe).delivered += 1_000;
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
        Box::pin(each_ends(&cluster, service)).await;
    }

    #[tokio::test]
    async fn a_watch_of_a_document_that_has_missed_something_ends() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let key = "_service_config/greeter";
        let put = cluster.etcdctl(&["put", key, "{}"]).await;
        put.expect("it is put");
        let document = || DocumentKey(key.into());
        Box::pin(each_ends(&cluster, document)).await;
    }

    #[test]
    fn who_follows_takes_little_memory_while_nothing_happens() {
        let member = Address::new("127.0.0.1:1").expect("an address");
        let terms = terms_of(member);
        let stream = terms.follow(DocumentKey("_service_config/greeter".into()));
        assert!(size_of_val(&stream) < 1_024, "{}", size_of_val(&stream));
    }
}
