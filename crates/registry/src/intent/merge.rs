//! The pure step that brings together what instances say of themselves and what operators want of them.

use std::sync::Arc;

use super::Intents;
use crate::{Change, Instance, Snapshot, Update};

/// A service's instances, each under the intent for it.
///
/// A change of either side costs what it changes.
#[derive(Debug, Clone)]
pub(crate) struct Merged {
    snapshot: Snapshot,
    intents: Intents,
}

impl Merged {
    /// What instances say of themselves, under what is wanted of them.
    pub(crate) fn new(said: Snapshot, wanted: Intents) -> Self {
        let mut merged = Self {
            snapshot: said,
            intents: Intents::default(),
        };
        merged.wanted(wanted);
        merged
    }

    /// The instances as they are to be taken. Its revision is that of what they say themselves; that of the intents is beside
    /// it.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// All that is wanted of them.
    pub(crate) fn intents(&self) -> &Intents {
        &self.intents
    }

    /// The same, and nothing else of this.
    pub(crate) fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }

    /// What instances say of themselves has changed.
    pub(crate) fn said(&mut self, Change { revision, updates }: Change) {
        let updates = updates.into_iter().map(|update| match update {
            Update::Reset(all) => Update::Reset(all.iter().map(|one| self.under(one)).collect()),
            Update::Upsert(instance) => Update::Upsert(self.under(&instance)),
            Update::Remove(id) => Update::Remove(id),
        });
        let updates = updates.collect();
        self.snapshot = self.snapshot.clone().apply(Change { revision, updates });
    }

    /// What operators want has changed: these are all intents now.
    ///
    /// Where the store has gone back, and has lost some, the instances that are still those from before are taken to carry
    /// what was wanted of them, as their owners will say when they have put them there again.
    pub(crate) fn wanted(&mut self, intents: Intents) {
        let before = std::mem::replace(&mut self.intents, intents);
        let revision = self.intents.revision();
        let has_gone_back = revision < before.revision() && revision < self.snapshot.revision();
        let changed = self.intents.changed_since(&before);
        let known = changed.filter_map(|id| self.snapshot.get(id));
        let updates = known.map(|instance| {
            if has_gone_back && self.intents.get(&instance.id).is_none() {
                let lost = before.get(&instance.id);
                return Update::Upsert(Arc::new(Instance::clone(instance).carrying(lost)));
            }
            Update::Upsert(self.under(instance))
        });
        let change = Change {
            revision: self.snapshot.revision(),
            updates: updates.collect(),
        };
        let snapshot = self.snapshot.clone().apply(change);
        self.snapshot = snapshot.with_intents_as_of(revision);
    }

    fn under(&self, instance: &Arc<Instance>) -> Arc<Instance> {
        Instance::under(instance, self.intents.get(&instance.id))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::*;
    use crate::{Address, InstanceId, Intent, Revision, ServiceName, Status, Weight};

    #[derive(Debug, Clone)]
    enum Step {
        Said(Vec<Update>),
        Wanted(Vec<(InstanceId, Intent)>),
    }

    fn status() -> impl Strategy<Value = Status> {
        select(&Status::ALL[..])
    }

    fn weight() -> impl Strategy<Value = Weight> {
        (1..4_u32).prop_map(|weight| Weight::new(weight).expect("a weight"))
    }

    fn address() -> impl Strategy<Value = Address> {
        (1..8_u16).prop_map(|port| Address::new(&format!("10.0.0.1:{port}")).expect("an address"))
    }

    fn service() -> ServiceName {
        ServiceName::new("greeter").expect("a name")
    }

    prop_compose! {
        fn instance()(
            address in address(),
            status in status(),
            weight in weight(),
            carried in option::of(intent()),
        ) -> Arc<Instance> {
            let itself = Instance::new(service(), address).with_status(status).with_weight(weight);
            Arc::new(itself.carrying(carried.as_ref()))
        }
    }

    fn update() -> impl Strategy<Value = Update> {
        prop_oneof![
            instance().prop_map(Update::Upsert),
            address().prop_map(|address| Update::Remove(InstanceId::from(&address))),
            vec(instance(), 0..6).prop_map(Update::Reset),
        ]
    }

    fn intent() -> impl Strategy<Value = Intent> {
        prop_oneof![
            Just(Intent::nothing()),
            status().prop_map(Intent::from),
            weight().prop_map(Intent::from),
            (status(), weight())
                .prop_map(|(status, weight)| Intent::from(status).with_weight(weight)),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        let intent = (address(), intent()).prop_map(|(a, intent)| (InstanceId::from(&a), intent));
        prop_oneof![
            vec(update(), 1..4).prop_map(Step::Said),
            vec(intent, 0..6).prop_map(Step::Wanted),
        ]
    }

    /// What comes of the steps, and what it is made of.
    fn after(steps: Vec<Step>) -> (Merged, Snapshot, Intents) {
        let mut merged = Merged::new(Snapshot::empty(service()), Intents::default());
        let (mut raw, mut intents) = (Snapshot::empty(service()), Intents::default());
        for (number, step) in (1..).zip(steps) {
            match step {
                Step::Said(updates) => {
                    let revision = Revision(number);
                    let change = Change { revision, updates };
                    raw = raw.apply(change.clone());
                    merged.said(change);
                }
                Step::Wanted(wanted) => {
                    intents = wanted.into_iter().collect();
                    merged.wanted(intents.clone());
                }
            }
        }
        (merged, raw, intents)
    }

    /// Which intent counts for an instance: the store's, and where it has none the one that is carried.
    fn in_force<'a>(intents: &'a Intents, instance: &'a Instance) -> Option<&'a Intent> {
        let intent = intents.get(&instance.id).or(instance.carried());
        intent.filter(|intent| !intent.is_nothing())
    }

    proptest! {
        #[test]
        fn in_whatever_order_they_came_each_instance_is_under_its_own_intent(
            steps in vec(step(), 0..8),
        ) {
            let (merged, raw, intents) = after(steps);
            let merged = merged.snapshot();
            prop_assert_eq!(merged.revision(), raw.revision());
            prop_assert!(merged.instances().map(|i| &i.id).eq(raw.instances().map(|i| &i.id)));
            for (merged, raw) in merged.instances().zip(raw.instances()) {
                let intent = in_force(&intents, raw);
                prop_assert_eq!(merged.intent(), intent);
                let (status, weight) = (raw.own_status(), raw.own_weight());
                prop_assert_eq!(merged.status, intent.and_then(Intent::status).unwrap_or(status));
                prop_assert_eq!(merged.weight, intent.and_then(Intent::weight).unwrap_or(weight));
                prop_assert_eq!((merged.own_status(), merged.own_weight()), (status, weight));
                prop_assert_eq!(Instance::under(merged, None), raw.clone(), "it can be given back to itself");
            }
        }

        #[test]
        fn a_change_of_intents_touches_only_those_whom_it_is_about(
            steps in vec(step(), 0..8),
            wanted in vec((address(), intent()), 0..6),
        ) {
            let (mut merged, _, before) = after(steps);
            let then = merged.snapshot().clone();
            let wanted = wanted.into_iter().map(|(address, intent)| (InstanceId::from(&address), intent));
            let wanted: Intents = wanted.collect();
            merged.wanted(wanted.clone());
            for (now, then) in merged.snapshot().instances().zip(then.instances()) {
                let is_same = in_force(&before, then) == in_force(&wanted, then);
                prop_assert_eq!(is_same, Arc::ptr_eq(now, then));
            }
        }
    }
    /// An instance, under an intent of revision 20, that was read at revision 21.
    fn drained() -> (Merged, InstanceId) {
        let address = Address::new("10.0.0.1:1").expect("an address");
        let instance = Instance::new(service(), address);
        let id = instance.id.clone();
        let change = Change {
            revision: Revision(21),
            updates: vec![Update::Upsert(Arc::new(instance))],
        };
        let said = Snapshot::empty(service()).apply(change);
        let wanted: Intents = [(id.clone(), Status::Draining.into())]
            .into_iter()
            .collect();
        (Merged::new(said, wanted.read_at(Revision(20))), id)
    }

    fn nothing_at(revision: u64) -> Intents {
        Intents::default().read_at(Revision(revision))
    }

    fn status_of(merged: &Merged, id: &InstanceId) -> Option<Status> {
        merged.snapshot().get(id).map(|instance| instance.status)
    }

    #[test]
    fn the_revisions_of_both_sides_are_told_apart() {
        let (mut merged, _) = drained();
        let revisions = |merged: &Merged| {
            let snapshot = merged.snapshot();
            (snapshot.revision().0, snapshot.intents_revision().0)
        };
        assert_eq!(revisions(&merged), (21, 20));
        merged.wanted(nothing_at(22));
        assert_eq!(revisions(&merged), (21, 22));
        merged.said(Change {
            revision: Revision(23),
            updates: Vec::new(),
        });
        assert_eq!(revisions(&merged), (23, 22));
    }

    #[test]
    fn what_is_taken_back_is_in_force_no_more() {
        let (mut merged, id) = drained();
        merged.wanted(nothing_at(22));
        assert_eq!(status_of(&merged, &id), Some(Status::Serving));
    }

    #[test]
    fn an_instance_from_before_its_store_was_wiped_stays_under_the_intent_that_is_lost_with_it() {
        let (mut merged, id) = drained();
        merged.wanted(nothing_at(3));
        assert_eq!(status_of(&merged, &id), Some(Status::Draining));
        // Its owner has put it there again, and knows nothing of that.
        let address = Address::new("10.0.0.1:1").expect("an address");
        let again = Update::Reset(vec![Arc::new(Instance::new(service(), address))]);
        merged.said(Change {
            revision: Revision(4),
            updates: vec![again],
        });
        assert_eq!(status_of(&merged, &id), Some(Status::Serving));
    }

    #[test]
    fn an_instance_that_was_read_since_its_store_was_wiped_is_as_its_owner_says() {
        let (mut merged, id) = drained();
        let address = Address::new("10.0.0.1:1").expect("an address");
        let again = Update::Reset(vec![Arc::new(Instance::new(service(), address))]);
        merged.said(Change {
            revision: Revision(2),
            updates: vec![again],
        });
        merged.wanted(nothing_at(3));
        assert_eq!(status_of(&merged, &id), Some(Status::Serving));
    }
}
