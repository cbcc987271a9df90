//! What a registration remembers of what an operator wanted of its instance, for when the store has lost it.

use std::{mem, sync::Arc};

use tokio::sync::watch;

use crate::{
    Freshness, InstanceId, Intent, Intents, Revision, ServiceName, Store, StoreError,
    intent::{IntentFollower, IntentView},
};

/// What was last seen to be wanted of one instance, in what its process follows.
#[derive(Debug)]
pub(super) struct Asked {
    id: InstanceId,
    memory: Memory,
    view: watch::Receiver<IntentView>,
    _follower: Arc<IntentFollower>,
}

/// An intent goes when an operator takes it back, and when the store is wiped or has an old backup restored. The store's
/// revisions tell which: they only ever grow, but in those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Memory {
    /// Nothing is wanted, as far as was seen.
    #[default]
    Nothing,
    /// The store has it.
    Stored { intent: Intent, seen: Revision },
    /// The store has gone back to before it was written. Whatever its revision grows to, only what it says of this very
    /// instance counts now.
    Lost(Intent),
}

impl Memory {
    /// What is remembered when the store, as of that revision, has this intent or none.
    fn then(self, stored: Option<&Intent>, revision: Revision) -> Self {
        match (stored, self) {
            (Some(intent), _) if intent.is_nothing() => Self::Nothing,
            (Some(intent), _) => Self::Stored {
                intent: intent.clone(),
                seen: revision,
            },
            (None, Self::Stored { intent, seen }) if revision < seen => Self::Lost(intent),
            (None, lost @ Self::Lost(_)) => lost,
            (None, Self::Nothing | Self::Stored { .. }) => Self::Nothing,
        }
    }

    fn lost(&self) -> Option<&Intent> {
        match self {
            Self::Lost(intent) => Some(intent),
            Self::Nothing | Self::Stored { .. } => None,
        }
    }
}

impl Asked {
    /// Nothing yet, of the instance of that id.
    pub(super) fn new(follower: Arc<IntentFollower>, id: InstanceId) -> Self {
        let mut view = follower.view();
        view.mark_changed();
        Self {
            id,
            memory: Memory::default(),
            view,
            _follower: follower,
        }
    }

    /// What the instance is to carry: what is remembered, and the store does not have.
    pub(super) fn carried(&mut self) -> Option<&Intent> {
        let view = self.view.borrow_and_update();
        // What was seen already, or was only known before, may be older than what is remembered.
        if view.has_changed()
            && view.freshness == Freshness::Live
            && let Some(intents) = &view.intents
        {
            remember(&mut self.memory, &self.id, intents);
        }
        drop(view);
        self.memory.lost()
    }

    /// Waits until something else is to be [carried](Self::carried). Cancellation safe.
    pub(super) async fn changed(&mut self) {
        let before = self.memory.lost().cloned();
        while self.carried() == before.as_ref() {
            let changed = self.view.changed().await;
            changed.expect("its follower lives as long as this");
            self.view.mark_changed();
        }
    }

    /// Looks whether the store still has what is remembered, to be known before an instance that was lost is put there
    /// again: whoever wiped it has taken both, and nobody must see the instance without the intent.
    pub(super) async fn look(
        &mut self,
        store: &dyn Store,
        service: &ServiceName,
    ) -> Result<(), StoreError> {
        self.carried();
        if matches!(self.memory, Memory::Stored { .. }) {
            let intents = store.list_intents(service).await?;
            remember(&mut self.memory, &self.id, &intents);
        }
        Ok(())
    }
}

fn remember(memory: &mut Memory, id: &InstanceId, intents: &Intents) {
    *memory = mem::take(memory).then(intents.get(id), intents.revision());
}

#[cfg(test)]
mod tests {
    use super::{Intent, Memory, Revision};
    use crate::Status;

    fn drain() -> Intent {
        Intent::from(Status::Draining)
    }

    /// What is remembered of a drain that was seen at revision 20 after these views.
    fn after<const N: usize>(views: [(Option<Intent>, u64); N]) -> Memory {
        let seen = Memory::Nothing.then(Some(&drain()), Revision(20));
        views.into_iter().fold(seen, |memory, (stored, revision)| {
            memory.then(stored.as_ref(), Revision(revision))
        })
    }

    #[test]
    fn what_is_gone_when_the_store_has_gone_on_was_taken_back() {
        for revision in [20, 21] {
            assert_eq!(after([(None, revision)]), Memory::Nothing);
        }
        assert_eq!(after([(None, 21), (None, 3)]), Memory::Nothing);
    }

    #[test]
    fn what_is_gone_when_the_store_has_gone_back_is_remembered_until_the_store_says_something_of_it()
     {
        let lost = Memory::Lost(drain());
        assert_eq!(after([(None, 19)]), lost);
        assert_eq!(after([(None, 3), (None, 4), (None, 1_000)]), lost);
        assert_eq!(
            after([(None, 3), (Some(Intent::nothing()), 4)]),
            Memory::Nothing
        );
        let stored = Memory::Stored {
            intent: drain(),
            seen: Revision(4),
        };
        assert_eq!(after([(None, 3), (Some(drain()), 4)]), stored);
        assert_eq!(
            after([(None, 3), (Some(drain()), 4), (None, 5)]),
            Memory::Nothing
        );
    }

    #[test]
    fn an_intent_that_is_there_counts_however_old_it_is() {
        let older = Intent::from(Status::NotServing);
        let stored = Memory::Stored {
            intent: older.clone(),
            seen: Revision(5),
        };
        assert_eq!(after([(Some(older), 5)]), stored);
    }

    #[test]
    fn who_has_never_seen_an_intent_remembers_none() {
        let memory = Memory::Nothing.then(None, Revision(20));
        assert_eq!(memory.then(None, Revision(3)).lost(), None);
        let nothing = Memory::Nothing.then(Some(&Intent::nothing()), Revision(20));
        assert_eq!(nothing.then(None, Revision(3)).lost(), None);
    }
}
