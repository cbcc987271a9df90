//! All instances of one service at one revision, and the pure step from one such value to the next.

use std::{collections::HashSet, fmt, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};

use crate::{Instance, InstanceId, ServiceName};

/// Where in a store's history something stands; grows with every change that the store counts.
///
/// Comparable only between values that one store gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happened to the instances of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// These are all there are; whoever is not among them is gone.
    Reset(Vec<Arc<Instance>>),
    /// This instance is there now, new or changed.
    Upsert(Arc<Instance>),
    /// The instance of this id is gone.
    Remove(InstanceId),
}

/// What happened in one step of a store's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The revision after the step.
    pub revision: Revision,
    /// What happened, in order.
    pub updates: Vec<Update>,
}

/// All instances of one service at one revision.
///
/// A persistent map: a clone costs nothing, and a new version costs what changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    service: ServiceName,
    revision: Revision,
    intents_revision: Revision,
    instances: OrdMap<InstanceId, Arc<Instance>>,
}

impl Snapshot {
    /// The snapshot of a service nobody has registered for.
    pub fn empty(service: ServiceName) -> Self {
        Self {
            service,
            revision: Revision::default(),
            intents_revision: Revision::default(),
            instances: OrdMap::new(),
        }
    }

    /// The service whose instances these are.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The revision that it stands at: as of it, this is what the instances say of themselves.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// As of which revision of the store operators want of them what they want. 0 in a store that has [none] for that, and
    /// where what the instances say themselves is all that was read.
    ///
    /// [none]: crate::Intents::revision
    pub fn intents_revision(&self) -> Revision {
        self.intents_revision
    }

    /// The same, under intents as of that revision.
    pub(crate) fn with_intents_as_of(self, intents_revision: Revision) -> Self {
        Self {
            intents_revision,
            ..self
        }
    }

    /// The instances, in the order of their ids.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values()
    }

    /// The instance of that id.
    pub fn get(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.instances.get(id)
    }

    /// How many instances there are.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// The snapshot after `change`.
    #[must_use]
    pub fn apply(mut self, change: Change) -> Self {
        self.revision = change.revision;
        for update in change.updates {
            match update {
                Update::Reset(all) => self.reset(all),
                Update::Upsert(instance) => {
                    self.instances.insert(instance.id.clone(), instance);
                }
                Update::Remove(id) => {
                    self.instances.remove(&id);
                }
            }
        }
        self
    }

    /// Keeps what is the same, so that what follows sees only the differences.
    fn reset(&mut self, all: Vec<Arc<Instance>>) {
        let ids: HashSet<&InstanceId> = all.iter().map(|instance| &instance.id).collect();
        let gone: Vec<_> = self
            .instances
            .keys()
            .filter(|id| !ids.contains(id))
            .cloned()
            .collect();
        for id in gone {
            self.instances.remove(&id);
        }
        for instance in all {
            let is_kept = |before: &Arc<Instance>| {
                *before == instance && before.origin() == instance.origin()
            };
            if !self.instances.get(&instance.id).is_some_and(is_kept) {
                self.instances.insert(instance.id.clone(), instance);
            }
        }
    }

    /// What leads from `before` to this snapshot; costs about what changed.
    pub fn changes_since(&self, before: &Self) -> Vec<Update> {
        before
            .instances
            .diff(&self.instances)
            .map(|item| match item {
                DiffItem::Add(_, instance)
                | DiffItem::Update {
                    new: (_, instance), ..
                } => Update::Upsert(Arc::clone(instance)),
                DiffItem::Remove(id, _) => Update::Remove(id.clone()),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{Arc, Change, Instance, InstanceId, Revision, ServiceName, Snapshot, Update};
    use crate::{Address, Weight};

    fn instance() -> impl Strategy<Value = Arc<Instance>> {
        (1..8u16, 1..3u32).prop_map(|(port, weight)| {
            let service = ServiceName::new("greeter").expect("a name");
            let address = Address::new(&format!("10.0.0.1:{port}")).expect("an address");
            Arc::new(
                Instance::new(service, address).with_weight(Weight::new(weight).expect("a weight")),
            )
        })
    }

    fn update() -> impl Strategy<Value = Update> {
        prop_oneof![
            instance().prop_map(Update::Upsert),
            instance().prop_map(|instance| Update::Remove(InstanceId::clone(&instance.id))),
            vec(instance(), 0..6).prop_map(Update::Reset),
        ]
    }

    fn after(updates: Vec<Update>) -> Snapshot {
        let nobody = Snapshot::empty(ServiceName::new("greeter").expect("a name"));
        nobody.apply(Change {
            revision: Revision(1),
            updates,
        })
    }

    proptest! {
        #[test]
        fn what_changed_between_two_snapshots_leads_from_one_to_the_other(
            before in vec(update(), 0..6),
            later in vec(update(), 0..6),
        ) {
            let before = after(before);
            let now = before.clone().apply(Change { revision: Revision(2), updates: later });
            let changes = now.changes_since(&before);
            prop_assert!(changes.len() <= before.len() + now.len());
            let led = before.apply(Change { revision: Revision(2), updates: changes });
            prop_assert_eq!(led, now);
        }

        #[test]
        fn a_reset_leaves_just_what_it_names_and_keeps_what_was_the_same(
            before in vec(update(), 0..6),
            all in vec(instance(), 0..6),
        ) {
            let before = after(before);
            let now = before.clone().apply(Change { revision: Revision(2), updates: vec![Update::Reset(all.clone())] });
            prop_assert!(now.instances().all(|instance| all.contains(instance)));
            prop_assert!(all.iter().all(|instance| now.get(&instance.id).is_some()));
            for instance in now.instances() {
                let once = all.iter().filter(|other| other.id == instance.id).count() == 1;
                let kept = before.get(&instance.id).filter(|old| once && *old == instance);
                prop_assert!(kept.is_none_or(|kept| Arc::ptr_eq(kept, instance)), "what is the same is shared");
            }
        }
    }
}
