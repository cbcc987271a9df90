//! The instances of one service in several dialects as one list: the pure step from what each says to who is there.
//!
//! Within a dialect instances are told apart by their ids, between dialects by the addresses that they prefer:
//!
//! 1. An instance is seen unless a dialect that is listed before its own has one at the same address.
//! 2. Of several that are seen under one id, the dialect that is listed first has it, and in one dialect the one that was
//!    written last. Another one at the same address is the same instance; one at another address goes by that address.
//!
//! So what the first dialect says is never changed by another, and what it says no more is said by the next.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::reader::Event;
use crate::{Instance, InstanceId, Revision, Update};

/// What each dialect has said of a service.
#[derive(Debug, Default)]
pub(super) struct Merge {
    /// By the dialect's place in the list, and the key.
    entries: HashMap<(usize, Arc<str>), Entry>,
    /// By the id.
    named: Groups,
    /// By the address, written as an id.
    at: Groups,
    /// What comes of it.
    seen: BTreeMap<InstanceId, Arc<Instance>>,
}

/// An instance that one key of one dialect describes. Those to be preferred are smaller.
#[derive(Debug, Clone)]
struct Entry {
    rank: usize,
    key: Arc<str>,
    instance: Arc<Instance>,
}

impl Entry {
    fn preference(&self) -> (usize, Reverse<Revision>, &str) {
        let written = self.instance.origin().map(|origin| origin.revision);
        (self.rank, Reverse(written.unwrap_or_default()), &self.key)
    }

    fn id(&self) -> &InstanceId {
        &self.instance.id
    }

    fn place(&self) -> InstanceId {
        InstanceId::from(self.instance.address())
    }
}

impl Merge {
    /// Takes in what happened in a dialect, and tells what comes of it.
    pub(super) fn apply(&mut self, rank: usize, event: Event) -> Vec<Update> {
        match event {
            Event::Listed(all) => {
                self.replace(rank, all);
                vec![Update::Reset(self.all())]
            }
            Event::Put(key, instance) => {
                let entry = Entry {
                    rank,
                    key,
                    instance,
                };
                let mut concerned = self.remove(rank, &entry.key);
                self.named.insert(entry.id().clone(), entry.clone());
                self.at.insert(entry.place(), entry.clone());
                self.concern(&entry, &mut concerned);
                self.entries.insert((rank, Arc::clone(&entry.key)), entry);
                self.settle(concerned)
            }
            Event::Gone(key) => {
                let concerned = self.remove(rank, &key);
                self.settle(concerned)
            }
        }
    }

    /// All who are seen.
    pub(super) fn all(&self) -> Vec<Arc<Instance>> {
        self.seen.values().cloned().collect()
    }

    /// Takes an entry away, and gives the ids that somebody else may have now.
    fn remove(&mut self, rank: usize, key: &Arc<str>) -> BTreeSet<InstanceId> {
        let mut concerned = BTreeSet::new();
        if let Some(entry) = self.entries.remove(&(rank, Arc::clone(key))) {
            self.concern(&entry, &mut concerned);
            self.named.remove(entry.id(), &entry);
            self.at.remove(&entry.place(), &entry);
        }
        concerned
    }

    /// Puts `all` in the place of what a dialect has said before.
    fn replace(&mut self, rank: usize, all: Vec<(Arc<str>, Arc<Instance>)>) {
        self.entries.retain(|(other, _), _| *other != rank);
        for (key, instance) in all {
            let entry = Entry {
                rank,
                key: Arc::clone(&key),
                instance,
            };
            self.entries.insert((rank, key), entry);
        }
        let entries = || self.entries.values().cloned();
        self.named = Groups::of(entries().map(|entry| (entry.id().clone(), entry)));
        self.at = Groups::of(entries().map(|entry| (entry.place(), entry)));
        let ids = self
            .named
            .ids()
            .chain(self.at.ids())
            .chain(self.seen.keys());
        self.settle(ids.cloned().collect());
    }

    /// Adds the ids that may be somebody else's when `entry`, which is there, comes or goes: those of all at its address,
    /// who may be seen then or no more, and with each the addresses of all who have it, who may go by them.
    fn concern(&self, entry: &Entry, concerned: &mut BTreeSet<InstanceId>) {
        let place = entry.place();
        let at_place = self.at.of_id(&place).iter();
        let ids: BTreeSet<_> = at_place.map(|other| other.id().clone()).collect();
        for id in &ids {
            concerned.extend(self.named.of_id(id).iter().map(Entry::place));
        }
        concerned.extend(ids);
        concerned.insert(place);
    }

    /// Looks who has each of the ids now.
    fn settle(&mut self, concerned: BTreeSet<InstanceId>) -> Vec<Update> {
        let updates = concerned
            .into_iter()
            .filter_map(|id| match self.holder(&id) {
                Some(now) => {
                    let before = self.seen.insert(id, Arc::clone(&now));
                    let same = before.is_some_and(|b| b == now && b.origin() == now.origin());
                    (!same).then_some(Update::Upsert(now))
                }
                None => self.seen.remove(&id).map(|_| Update::Remove(id)),
            });
        updates.collect()
    }

    /// The instance that is seen under an id.
    fn holder(&self, id: &InstanceId) -> Option<Arc<Instance>> {
        if let Some(entry) = self.owner(id) {
            return Some(Arc::clone(&entry.instance));
        }
        let elsewhere = |entry: &&Entry| {
            let owner = self.owner(entry.id());
            owner.is_some_and(|owner| owner.place() != entry.place())
        };
        let at = self.at.of_id(id).iter();
        let entry = at.filter(|entry| self.is_seen(entry)).find(elsewhere)?;
        let instance = Instance::clone(&entry.instance);
        Some(Arc::new(instance.with_id(id.clone())))
    }

    /// Whose own id that is, of those that are seen.
    fn owner(&self, id: &InstanceId) -> Option<&Entry> {
        let mut named = self.named.of_id(id).iter();
        named.find(|entry| self.is_seen(entry))
    }

    fn is_seen(&self, entry: &Entry) -> bool {
        let first = self.at.of_id(&entry.place()).first();
        first.is_some_and(|first| first.rank == entry.rank)
    }
}

/// Entries by an id, those to be preferred first. Nearly always there is one, or one for each dialect.
#[derive(Debug, Default)]
struct Groups(HashMap<InstanceId, Vec<Entry>>);

impl Groups {
    fn of(entries: impl Iterator<Item = (InstanceId, Entry)>) -> Self {
        let mut groups = HashMap::<_, Vec<_>>::new();
        for (id, entry) in entries {
            groups.entry(id).or_default().push(entry);
        }
        for group in groups.values_mut() {
            group.sort_unstable_by(|a, b| a.preference().cmp(&b.preference()));
        }
        Self(groups)
    }

    fn ids(&self) -> impl Iterator<Item = &InstanceId> {
        self.0.keys()
    }

    fn of_id(&self, id: &InstanceId) -> &[Entry] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    fn insert(&mut self, id: InstanceId, entry: Entry) {
        let group = self.0.entry(id).or_default();
        let at = group.partition_point(|other| other.preference() < entry.preference());
        group.insert(at, entry);
    }

    fn remove(&mut self, id: &InstanceId, entry: &Entry) {
        let Some(group) = self.0.get_mut(id) else {
            return;
        };
        group.retain(|other| (other.rank, &other.key) != (entry.rank, &entry.key));
        if group.is_empty() {
            self.0.remove(id);
        }
    }
}

#[cfg(test)]
mod tests;
