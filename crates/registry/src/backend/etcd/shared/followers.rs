//! Who follows what by a shared watch, and what each has yet to take in.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use etcd_client::KeyValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::super::list::Range;

/// How many bytes may wait for one follower: tens of thousands of instances.
const ROOM: u32 = 16 * 1024 * 1024;
/// What an event takes beside its key and value.
const OVERHEAD: usize = 128;

/// All who follow something.
#[derive(Debug, Default)]
pub(super) struct Followers(Mutex<Everyone>);

#[derive(Debug, Default)]
struct Everyone {
    /// By the first key of what they follow, which all others there begin with.
    by_first: BTreeMap<Vec<u8>, Vec<Follower>>,
    last: u64,
    is_closed: bool,
}

#[derive(Debug)]
struct Follower {
    number: u64,
    end: Vec<u8>,
    /// Bounded by the room that is left.
    queue: mpsc::UnboundedSender<Batch>,
    room: Arc<Semaphore>,
}

/// What one message says to one follower.
#[derive(Debug)]
struct Batch {
    told: Vec<KeyValue>,
    _room: OwnedSemaphorePermit,
}

/// A follower's own end of its queue. Dropped, it follows no more.
#[derive(Debug)]
pub(super) struct Ticket {
    followers: Arc<Followers>,
    first: Vec<u8>,
    number: u64,
    queue: mpsc::UnboundedReceiver<Batch>,
}

impl Followers {
    /// Follows `range`, whose first key is what all of its keys begin with. `None` when there is nothing more to come.
    pub(super) fn join(this: &Arc<Self>, (first, end): Range) -> Option<Ticket> {
        let mut everyone = this.lock();
        if everyone.is_closed {
            return None;
        }
        everyone.last += 1;
        let number = everyone.last;
        let (sender, queue) = mpsc::unbounded_channel();
        let follower = Follower {
            number,
            end,
            queue: sender,
            room: Arc::new(Semaphore::new(ROOM as usize)),
        };
        let same = everyone.by_first.entry(first.clone()).or_default();
        same.push(follower);
        Some(Ticket {
            followers: Arc::clone(this),
            first,
            number,
            queue,
        })
    }

    /// Tells what has happened to those whom it concerns. Who has no room for it is told nothing more.
    pub(super) fn tell<'a>(&self, happened: impl Iterator<Item = &'a KeyValue>) {
        let mut everyone = self.lock();
        let mut concerned: HashMap<Vec<u8>, Vec<&KeyValue>> = HashMap::new();
        for kv in happened {
            for first in everyone.prefixes(kv.key()) {
                match concerned.get_mut(first) {
                    Some(told) => told.push(kv),
                    None => {
                        concerned.insert(first.clone(), vec![kv]);
                    }
                }
            }
        }
        for (first, told) in concerned {
            everyone.keep(&first, |follower| follower.tell(&told));
        }
    }

    /// Tells everybody that there is nothing more to come.
    pub(super) fn close(&self) {
        let mut everyone = self.lock();
        everyone.is_closed = true;
        everyone.by_first.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Everyone> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Everyone {
    /// The first keys of what is followed that `key` begins with, the longest first.
    fn prefixes<'a>(&'a self, key: &[u8]) -> impl Iterator<Item = &'a Vec<u8>> {
        let mut rest = Some(key);
        std::iter::from_fn(move || {
            loop {
                let until = rest?;
                let range = (Bound::Unbounded, Bound::Included(until));
                let (first, _) = self.by_first.range::<[u8], _>(range).next_back()?;
                let same = first.iter().zip(until).take_while(|(a, b)| a == b).count();
                if same < first.len() {
                    // No prefix that is longer than what they have in common comes before this one.
                    rest = Some(&until[..same]);
                    continue;
                }
                rest = same.checked_sub(1).map(|shorter| &until[..shorter]);
                return Some(first);
            }
        })
    }

    /// Keeps of those who follow what begins at `first` those that are wanted.
    fn keep(&mut self, first: &[u8], is_wanted: impl FnMut(&mut Follower) -> bool) {
        if let Some(followers) = self.by_first.get_mut(first) {
            followers.retain_mut(is_wanted);
            if followers.is_empty() {
                self.by_first.remove(first);
            }
        }
    }
}

impl Follower {
    /// Whether there was room.
    fn tell(&self, told: &[&KeyValue]) -> bool {
        let told = told.iter().filter(|kv| kv.key() < self.end.as_slice());
        let told: Vec<_> = told.map(|kv| KeyValue::clone(kv)).collect();
        if told.is_empty() {
            return true;
        }
        let size = told
            .iter()
            .map(|kv| kv.key().len() + kv.value().len() + OVERHEAD)
            .sum::<usize>();
        // One that is larger than all the room has it for itself.
        let size = u32::try_from(size).unwrap_or(ROOM).min(ROOM);
        match Arc::clone(&self.room).try_acquire_many_owned(size) {
            Ok(room) => self.queue.send(Batch { told, _room: room }).is_ok(),
            Err(_) => false,
        }
    }
}

impl Ticket {
    /// What is told next; `None` after the last, be it that nothing more comes or that too much has come. Cancellation
    /// safe.
    pub(super) async fn next(&mut self) -> Option<Vec<KeyValue>> {
        Some(self.queue.recv().await?.told)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut everyone = self.followers.lock();
        everyone.keep(&self.first, |follower| follower.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::{Arc, Everyone, Followers};

    fn followed(firsts: &BTreeSet<Vec<u8>>) -> Everyone {
        Everyone {
            by_first: firsts
                .iter()
                .map(|first| (first.clone(), Vec::new()))
                .collect(),
            ..Everyone::default()
        }
    }

    #[test]
    fn a_key_concerns_those_who_follow_what_it_begins_with() {
        let firsts = [
            "eu/a/",
            "eu/a/b/",
            "eu/a/c",
            "eu/ab/",
            "eu/_service_config/a",
        ];
        let everyone = followed(&firsts.map(|first| first.as_bytes().to_vec()).into());
        for (key, concerned) in [
            ("eu/a/1", vec!["eu/a/"]),
            ("eu/a/b/1", vec!["eu/a/b/", "eu/a/"]),
            ("eu/a/b", vec!["eu/a/"]),
            ("eu/a", vec![]),
            ("eu/a0", vec![]),
            ("eu/_service_config/a", vec!["eu/_service_config/a"]),
            ("eu/zzz", vec![]),
            ("", vec![]),
        ] {
            let concerned: Vec<_> = concerned.into_iter().map(str::as_bytes).collect();
            let found: Vec<_> = everyone.prefixes(key.as_bytes()).collect();
            assert_eq!(found, concerned, "{key}");
        }
    }

    proptest! {
        #[test]
        fn every_prefix_is_found_once(
            firsts in vec(vec(0..3_u8, 0..6), 0..20),
            key in vec(0..3_u8, 0..8),
        ) {
            let firsts: BTreeSet<_> = firsts.into_iter().collect();
            let everyone = followed(&firsts);
            let mut found: Vec<_> = everyone.prefixes(&key).cloned().collect();
            found.reverse();
            let begins: Vec<_> = firsts.into_iter().filter(|first| key.starts_with(first)).collect();
            prop_assert_eq!(found, begins);
        }
    }

    #[tokio::test]
    async fn who_leaves_is_forgotten_and_nobody_joins_what_is_over() {
        let followers = Arc::new(Followers::default());
        let join = || Followers::join(&followers, (b"a/".to_vec(), b"a0".to_vec()));
        let (one, two) = (join().expect("a ticket"), join().expect("a ticket"));
        drop(one);
        assert_eq!(followers.lock().by_first[b"a/".as_slice()].len(), 1);
        drop(two);
        assert!(followers.lock().by_first.is_empty());
        let mut three = join().expect("a ticket");
        followers.close();
        assert!(three.next().await.is_none());
        assert!(join().is_none());
    }
}
