//! Every so often, what a watch has delivered is compared with a list. There should be no difference.
//!
//! The two are compared as of one revision, that of the list: what comes after it is no difference, and what comes before
//! may still be on its way. An event from after the list's revision shows that all before it were told, since etcd tells
//! them in order; what is different then, the watch has missed. When nothing more comes, the watch is stuck.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use etcd_client::KeyValue;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use super::{
    events::ON_ITS_WAY,
    known::{Digest, Known, written},
    list::{BOUND, Range, Read, What, for_each},
    members::{Connection, Failure},
};
use crate::Reconciled;

/// The share by which the time between two lists is made longer or shorter at random.
const JITTER: f64 = 0.1;

/// What the lists of all watches have come to. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    lists: AtomicU64,
    differences: AtomicU64,
}

impl Tally {
    pub(super) fn read(&self) -> Reconciled {
        Reconciled {
            lists: self.0.lists.load(Ordering::Relaxed),
            differences: self.0.differences.load(Ordering::Relaxed),
        }
    }

    fn count(&self, differences: usize) {
        self.0.lists.fetch_add(1, Ordering::Relaxed);
        let differences = u64::try_from(differences).unwrap_or(u64::MAX);
        self.0.differences.fetch_add(differences, Ordering::Relaxed);
    }
}

/// Compares what one watch delivers with what is there.
pub(super) struct Reconciler {
    connection: Arc<Connection>,
    range: Range,
    every: Duration,
    tally: Tally,
    known: Known,
    stage: Stage,
}

enum Stage {
    /// Nothing is to be done until then.
    Resting(Instant),
    /// A list is being read.
    Listing(BoxFuture<'static, Result<(Read, Known), Failure>>, Told),
    /// What is different may be on its way until then.
    Waiting(Comparison, Instant),
}

/// What was told of keys since a list was begun: the revision of the newest event of each.
type Told = HashMap<Digest, i64>;

impl Reconciler {
    /// For a watch that has delivered what is `known`.
    pub(super) fn new(
        connection: Arc<Connection>,
        range: Range,
        known: Known,
        every: Duration,
        tally: Tally,
    ) -> Self {
        Self {
            connection,
            range,
            stage: Stage::resting(every),
            every,
            tally,
            known,
        }
    }

    /// Takes in what the watch has told. Fails when it has passed something over.
    pub(super) fn hear(&mut self, told: &[&KeyValue]) -> Result<(), Failure> {
        for kv in told {
            let written = written(kv);
            let key = self.known.take(kv.key(), written);
            match &mut self.stage {
                Stage::Resting(_) => {}
                Stage::Listing(_, told) => {
                    told.insert(key, kv.mod_revision());
                }
                Stage::Waiting(comparison, _) => {
                    comparison.hear(key, written, kv.mod_revision());
                }
            }
        }
        self.conclude()
    }

    /// Does what is due next, and waits until then. Cancellation safe. Fails when the watch has passed
    /// something over, or is stuck.
    pub(super) async fn turn(&mut self) -> Result<(), Failure> {
        match &mut self.stage {
            Stage::Resting(until) => {
                sleep_until(*until).await;
                let nothing = self.known.nothing();
                let list = list(Arc::clone(&self.connection), self.range.clone(), nothing);
                self.stage = Stage::Listing(Box::pin(list), Told::new());
            }
            Stage::Listing(list, told) => {
                let (read, listed) = list.await?;
                let comparison = Comparison::new(&self.known, &listed, read.revision, told);
                self.stage = Stage::Waiting(comparison, Instant::now() + ON_ITS_WAY);
            }
            Stage::Waiting(comparison, until) => {
                sleep_until(*until).await;
                let differences = comparison.different.len();
                self.tally.count(differences);
                return Err(self.connection.complaint(format!(
                    "the watch is stuck: a list has found {differences} changes that it has not told within {ON_ITS_WAY:?}"
                )));
            }
        }
        self.conclude()
    }

    /// Ends the comparison as soon as it is decided.
    fn conclude(&mut self) -> Result<(), Failure> {
        let Stage::Waiting(comparison, _) = &self.stage else {
            return Ok(());
        };
        let differences = comparison.different.len();
        if !comparison.is_decided() {
            return Ok(());
        }
        self.tally.count(differences);
        self.stage = Stage::resting(self.every);
        if differences == 0 {
            return Ok(());
        }
        Err(self.connection.complaint(format!(
            "the watch has passed over what a list has found (changes: {differences})"
        )))
    }
}

impl Stage {
    fn resting(every: Duration) -> Self {
        let spread = JITTER * (fastrand::f64() * 2.0 - 1.0);
        Self::Resting(Instant::now() + every.mul_f64(1.0 + spread))
    }
}

async fn list(
    connection: Arc<Connection>,
    range: Range,
    mut listed: Known,
) -> Result<(Read, Known), Failure> {
    let read = for_each(&connection, What::Keys(&range), BOUND, |kv| {
        listed.take(kv.key(), written(kv));
    });
    Ok((read.await?, listed))
}

/// What a list has found otherwise than it was told.
#[derive(Debug)]
struct Comparison {
    /// That of the list.
    revision: i64,
    /// When the list says that each was written; 0 of one that is not there.
    different: HashMap<Digest, i64>,
    /// Whether the watch has told of anything after the list.
    is_passed: bool,
}

impl Comparison {
    fn new(known: &Known, listed: &Known, revision: i64, told: &Told) -> Self {
        let is_later = |written: &i64| *written > revision;
        // What was told of a key after the list takes the place of whatever was before.
        let different = known.differences(listed);
        let different = different.filter(|key| !told.get(key).is_some_and(is_later));
        Self {
            revision,
            different: different.map(|key| (key, listed.written(key))).collect(),
            is_passed: told.values().any(is_later),
        }
    }

    /// Whether nothing that is still to come can change what is different.
    fn is_decided(&self) -> bool {
        self.is_passed || self.different.is_empty()
    }

    /// Takes in an event of `revision`, after which the key was `written` then.
    fn hear(&mut self, key: Digest, written: i64, revision: i64) {
        if revision > self.revision {
            self.is_passed = true;
        } else if self.different.get(&key) == Some(&written) {
            self.different.remove(&key);
        } else if written > 0 {
            // It came and went before the list, which the watch has yet to tell.
            self.different.entry(key).or_insert(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::{collection::vec, prelude::*};

    use super::{Comparison, Known, Told};

    /// Puts and deletions of a few keys, as a watch tells them: key, revision, and when the key was written.
    fn history() -> impl Strategy<Value = Vec<(u8, i64, i64)>> {
        vec((0..4_u8, any::<bool>()), 1..30).prop_map(|writes| {
            let mut there = HashMap::new();
            let events = (2..).zip(writes).map(|(revision, (key, is_put))| {
                let was_there = there.insert(key, is_put) == Some(true);
                let written = if is_put || !was_there { revision } else { 0 };
                there.insert(key, written > 0);
                (key, revision, written)
            });
            events.collect()
        })
    }

    fn known(events: &[(u8, i64, i64)]) -> Known {
        let mut known = Known::default();
        for (key, _, written) in events {
            known.take(&[*key], *written);
        }
        known
    }

    /// What is different when the watch has told everything: the list begins after `begun` events, finds what there is
    /// after `found`, and is whole when `told` were told.
    fn differences(
        events: &[(u8, i64, i64)],
        missed: Option<usize>,
        (begun, found, told): (usize, usize, usize),
    ) -> usize {
        let mut watch = Known::default();
        let mut newest = Told::new();
        let mut comparison = None;
        let mut listed = watch.nothing();
        for (key, _, written) in &events[..found] {
            listed.take(&[*key], *written);
        }
        let compare = |watch: &Known, newest: &Told| {
            let revision = i64::try_from(found).expect("few") + 1;
            Comparison::new(watch, &listed, revision, newest)
        };
        for (number, (key, revision, written)) in events.iter().enumerate() {
            if number == told {
                comparison = Some(compare(&watch, &newest));
            }
            if missed == Some(number) {
                continue;
            }
            let key = watch.take(&[*key], *written);
            if number >= begun {
                newest.insert(key, *revision);
            }
            if let Some(comparison) = &mut comparison {
                comparison.hear(key, *written, *revision);
            }
        }
        let comparison = comparison.unwrap_or_else(|| compare(&watch, &newest));
        comparison.different.len()
    }

    proptest! {
        #[test]
        fn what_is_on_its_way_is_no_difference_and_what_was_missed_is_one(
            events in history(),
            moments in any::<[prop::sample::Index; 4]>(),
        ) {
            let [begun, found, told, missed] = moments;
            let found = found.index(events.len() + 1);
            let begun = begun.index(found + 1);
            let told = begun + told.index(events.len() + 1 - begun);
            let moments = (begun, found, told);
            prop_assert_eq!(differences(&events, None, moments), 0);

            let missed = missed.index(events.len());
            let is_same = |event: &(u8, i64, i64)| event.0 == events[missed].0;
            let overwritten = events[missed + 1..found.max(missed + 1).max(told)].iter().any(is_same);
            let expected = usize::from(missed < found && !overwritten);
            prop_assert_eq!(differences(&events, Some(missed), moments), expected);
        }

        #[test]
        fn differences_are_the_same_both_ways(one in history(), other in history()) {
            let one = known(&one);
            let mut two = one.nothing();
            for (key, _, written) in &other {
                two.take(&[*key], *written);
            }
            let (mut there, mut back): (Vec<_>, Vec<_>) =
                (one.differences(&two).collect(), two.differences(&one).collect());
            there.sort_unstable();
            back.sort_unstable();
            prop_assert_eq!(&there, &back);
            prop_assert!(there.iter().all(|key| one.written(*key) != two.written(*key)));
        }
    }
}
