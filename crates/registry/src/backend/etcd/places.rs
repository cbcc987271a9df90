//! The keys of a group, watched by their owner on one stream: a watcher for each key.
//!
//! A watch that breaks may have missed anything, and one that is stuck is as silent as one with nothing to say: after each
//! break, after a while of silence and when there is doubt the keys are read.

use std::{
    collections::HashMap,
    convert::Infallible,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::KeyValue;
use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use super::{
    members::{Connection, Failure, Members},
    place::Place,
    transaction::read_all,
    watchers::Watchers,
};
use crate::{Backoff, BackoffPolicy, Loss};

/// How many keys one request reads; etcd refuses a transaction of more than 128 operations.
const READ_AT_ONCE: usize = 100;

/// The places of a group's keys.
#[derive(Debug)]
pub(super) struct Places {
    members: Arc<Members>,
    quiet: Duration,
    known: Mutex<Known>,
    /// Told of each key that came or went.
    changed: Notify,
    /// Told by whoever has reason to think that something was missed.
    doubt: Notify,
}

#[derive(Debug, Default)]
struct Known {
    places: HashMap<Arc<str>, Place>,
    /// The keys that have come or gone since these were last taken.
    news: Vec<Arc<str>>,
}

impl Places {
    /// No places. What is there later is looked at after a silence of `quiet`.
    pub(super) fn new(members: Arc<Members>, quiet: Duration) -> Self {
        Self {
            members,
            quiet,
            known: Mutex::default(),
            changed: Notify::new(),
            doubt: Notify::new(),
        }
    }

    /// Watches over keys that have been put: whom `place` tells is told when one of them is lost.
    pub(super) fn add(&self, keys: &[Arc<str>], place: &Place) {
        let mut known = self.known();
        for key in keys {
            known.places.insert(Arc::clone(key), place.clone());
            known.news.push(Arc::clone(key));
        }
        drop(known);
        self.changed.notify_one();
    }

    /// Forgets keys.
    pub(super) fn remove(&self, keys: &[Arc<str>]) {
        let mut known = self.known();
        for key in keys {
            if known.places.remove(key).is_some() {
                known.news.push(Arc::clone(key));
            }
        }
        drop(known);
        self.changed.notify_one();
    }

    /// Has all keys read, sooner than after a silence.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// The revision of the newest put at a key that was seen.
    pub(super) fn written(&self, key: &Arc<str>) -> Option<i64> {
        Some(self.known().places.get(key)?.written)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches over the keys. For as long as etcd cannot be reached it goes on trying: when that is too long is the lease's
    /// business.
    pub(super) async fn watch_over(&self) -> Infallible {
        let mut backoff = Backoff::new(BackoffPolicy {
            initial: Duration::from_millis(20),
            max: Duration::from_secs(1),
            multiplier: 1.6,
            jitter: 0.2,
        });
        loop {
            self.there_are_keys().await;
            let Err(failure) = Box::pin(self.follow()).await;
            tracing::debug!(%failure, "the watch of held keys broke");
            sleep(backoff.next_delay()).await;
            if let Err(failure) = self.look().await {
                tracing::debug!(%failure, "held keys cannot be read");
            }
        }
    }

    async fn there_are_keys(&self) {
        while self.known().places.is_empty() {
            self.changed.notified().await;
        }
    }

    async fn follow(&self) -> Result<Infallible, Failure> {
        let connection = self.members.connection().await?;
        let Err(failure) = self.follow_on(&connection).await;
        self.members.leave(&connection, &failure);
        Err(failure)
    }

    async fn follow_on(&self, connection: &Connection) -> Result<Infallible, Failure> {
        let mut watchers = Watchers::default();
        self.all_are_new();
        let mut next_look = Instant::now() + self.quiet;
        loop {
            for (key, known) in self.news() {
                match known {
                    Some(known) => watchers.add(connection, key, known).await?,
                    None => watchers.cancel(connection, &key).await?,
                }
            }
            select! {
                message = watchers.next(connection) => {
                    for kv in message?.events().iter().filter_map(|event| event.kv()) {
                        self.hear(kv);
                    }
                }
                () = self.changed.notified() => {}
                () = self.doubt.notified() => self.look().await?,
                () = sleep_until(next_look) => {
                    self.look().await?;
                    next_look = Instant::now() + self.quiet;
                }
            }
        }
    }

    fn all_are_new(&self) {
        let mut known = self.known();
        known.news = known.places.keys().cloned().collect();
    }

    /// The keys that have come, and from which revision on they are to be watched, and those that have gone.
    fn news(&self) -> Vec<(Arc<str>, Option<i64>)> {
        let mut known = self.known();
        let news = mem::take(&mut known.news);
        let known = |key: Arc<str>| {
            let revision = known.places.get(&key).map(|place| place.known);
            (key, revision)
        };
        news.into_iter().map(known).collect()
    }

    /// Takes note of an event.
    fn hear(&self, kv: &KeyValue) {
        let mut known = self.known();
        let key = str::from_utf8(kv.key()).ok();
        let place = key.and_then(|key| known.places.get_mut(key));
        // What is older than what is known happened before the key was put, or put again.
        if let Some(place) = place.filter(|place| place.known < kv.mod_revision()) {
            // A deletion has no version, and no value.
            place.see(kv.mod_revision(), (kv.version() > 0).then_some(kv));
        }
    }

    /// Reads all keys as they are now.
    async fn look(&self) -> Result<(), Failure> {
        let all: Vec<_> = {
            let known = self.known();
            let places = known.places.iter();
            places
                .map(|(key, place)| (Arc::clone(key), place.known))
                .collect()
        };
        let mut parts: Vec<_> = all.chunks(READ_AT_ONCE).collect();
        while let Some(some) = parts.pop() {
            let keys: Vec<_> = some.iter().map(|(key, _)| Arc::clone(key)).collect();
            let read = self.members.call(|connection| read_all(connection, &keys));
            match (Box::pin(read).await, &keys[..]) {
                (Ok((revision, found)), _) => self.see(some, revision, &found),
                (Err(failure), [key]) if failure.is_denied() => self.cannot_see(key, &failure),
                // One of them: who may be seen must not go unseen for it.
                (Err(failure), _) if failure.is_denied() => parts.extend(some.chunks(1)),
                (Err(failure), _) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Takes note of what was read.
    fn see(&self, some: &[(Arc<str>, i64)], revision: i64, found: &[Option<KeyValue>]) {
        let mut known = self.known();
        for ((key, before), found) in some.iter().zip(found) {
            let place = known.places.get_mut(key);
            // Who was put anew, or heard of, meanwhile is known better than by this read.
            if let Some(place) = place.filter(|place| place.known == *before) {
                place.see(revision, found.as_ref());
            }
        }
    }

    /// Gives up a key that we may not read: nobody would know whether it is there.
    fn cannot_see(&self, key: &Arc<str>, failure: &Failure) {
        let mut known = self.known();
        if let Some(place) = known.places.remove(key) {
            place.lose(&Loss::Gone(failure.to_string()));
            known.news.push(Arc::clone(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::{Client, PutOptions};
    use testkit::etcd::Cluster;
    use tokio::{sync::watch, time::timeout};

    use super::{Arc, Duration, Loss, Members, Place, Places};
    use crate::{Address, ServiceName, backend::etcd::keys::Keys, dialect::Dialects};

    const BOUND: Duration = Duration::from_secs(20);

    fn places(cluster: &Cluster, quiet: Duration) -> Arc<Places> {
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        let members = Arc::new(Members::new(vec![endpoint]));
        Arc::new(Places::new(members, quiet))
    }

    /// The place of a lease that was lost before the watch of its key began, which has nothing to say of it.
    fn place() -> Place {
        Place {
            keys: Keys::new(None, Dialects::default()),
            service: ServiceName::new("greeter").expect("a name"),
            lease: 7,
            holder: None,
            granted: Arc::default(),
            known: 2,
            written: 1,
            tell: watch::Sender::new(None),
        }
    }

    #[tokio::test]
    async fn an_owner_whose_watch_is_silent_looks_for_itself_after_a_while_and_when_in_doubt() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let taken = cluster.etcdctl(&["put", "greeter/a", "x"]).await;
        taken.expect("it is put, at revision 2");
        let key: Arc<str> = "greeter/a".into();
        let patient = places(&cluster, Duration::from_hours(1));
        let impatient = places(&cluster, Duration::from_millis(100));
        let hears = |places: &Arc<Places>| {
            let place = place();
            let told = place.tell.subscribe();
            places.add(&[Arc::clone(&key)], &place);
            let places = Arc::clone(places);
            let task = tokio::spawn(async move { places.watch_over().await });
            (told, tokio_util::task::AbortOnDropHandle::new(task))
        };
        let (mut patient_told, _patient) = hears(&patient);
        let (mut impatient_told, _impatient) = hears(&impatient);
        let lost = timeout(BOUND, impatient_told.wait_for(Option::is_some)).await;
        lost.expect("it looks").expect("it lives");
        let superseded = Loss::Superseded("a value that is no instance".into());
        assert_eq!(*impatient_told.borrow(), Some(superseded.clone()));
        assert_eq!(*patient_told.borrow(), None, "nobody has told it to look");
        patient.doubt();
        let lost = timeout(BOUND, patient_told.wait_for(Option::is_some)).await;
        lost.expect("it looks").expect("it lives");
        assert_eq!(*patient_told.borrow(), Some(superseded));
    }

    #[tokio::test]
    async fn hundreds_of_keys_are_watched_on_one_stream_and_each_owner_hears_of_its_own() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let places = places(&cluster, Duration::from_hours(1));
        let watching = Arc::clone(&places);
        let task = tokio::spawn(async move { watching.watch_over().await });
        let _task = tokio_util::task::AbortOnDropHandle::new(task);
        let client = Client::connect(cluster.endpoints(), None).await;
        let mut client = client.expect("a client");
        let granted = client.lease_grant(60, None).await;
        let lease = granted.expect("a lease").id();
        let mut told = Vec::new();
        // Some are put before the watcher of another has begun, and some after it.
        for n in 0..300 {
            let key = format!("greeter/{n}");
            let ours = PutOptions::new().with_lease(lease);
            let put = client.put(&*key, "x", Some(ours)).await;
            let known = put.expect("it is put").header().expect("one").revision();
            let place = Place {
                lease,
                known,
                ..place()
            };
            places.add(&[key.into()], &place);
            told.push(place.tell.subscribe());
        }
        places.remove(&["greeter/8".into()]);
        for key in ["greeter/8", "greeter/7"] {
            let taken = client.put(key, "x", None).await;
            taken.expect("it is put");
        }
        let mut seventh = told[7].clone();
        let lost = timeout(BOUND, seventh.wait_for(Option::is_some)).await;
        lost.expect("it hears").expect("it lives");
        let lost = told.iter().filter(|told| told.borrow().is_some()).count();
        assert_eq!(lost, 1, "nobody else has lost anything");
    }

    #[tokio::test]
    async fn what_has_happened_before_its_watch_began_is_heard_by_an_owner_all_the_same() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let places = places(&cluster, Duration::from_hours(1));
        let watching = Arc::clone(&places);
        let task = tokio::spawn(async move { watching.watch_over().await });
        let _task = tokio_util::task::AbortOnDropHandle::new(task);
        let put = cluster.etcdctl(&["put", "greeter/a", "x"]).await;
        let known = put.expect("it is put")["header"]["revision"].as_i64();
        let deleted = cluster.etcdctl(&["del", "greeter/a"]).await;
        deleted.expect("it is deleted");
        let place = Place {
            known: known.expect("a revision"),
            ..place()
        };
        let mut told = place.tell.subscribe();
        places.add(&["greeter/a".into()], &place);
        let lost = timeout(BOUND, told.wait_for(Option::is_some)).await;
        let lost = lost.expect("it hears").expect("it lives").clone();
        assert_eq!(lost, Some(Loss::Deleted("its key is gone".into())));
    }
}
