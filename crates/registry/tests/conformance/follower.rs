//! A watch that is followed: what it said, and the snapshot that this makes.

use futures_util::{StreamExt, stream::BoxStream};
use registry::{Change, Instance, Snapshot, Store, StoreError, Update};

use crate::fixture::{PATIENCE, service};

pub(crate) struct Follower {
    stream: BoxStream<'static, Result<Change, StoreError>>,
    snapshot: Snapshot,
    updates: Vec<Update>,
}

impl Follower {
    /// Starts a watch and waits for its first item.
    pub(crate) async fn start(store: &dyn Store, service_name: &str) -> Self {
        let service = service(service_name);
        let mut follower = Self {
            stream: store.watch(&service),
            snapshot: Snapshot::empty(service),
            updates: Vec::new(),
        };
        let first = follower.next().await;
        assert!(
            matches!(first.updates.first(), Some(Update::Reset(_))),
            "the first item is a reset: {first:?}"
        );
        follower
    }

    /// The next item, after it was applied.
    pub(crate) async fn next(&mut self) -> Change {
        let change = tokio::time::timeout(PATIENCE, self.stream.next())
            .await
            .unwrap_or_else(|_| panic!("nothing more was seen than {:?}", self.updates))
            .expect("a watch does not end")
            .expect("the watch goes on");
        self.updates.extend(change.updates.iter().cloned());
        self.snapshot = self.snapshot.clone().apply(change.clone());
        change
    }

    /// Follows until the snapshot is as wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Snapshot) -> bool) {
        while !wanted(&self.snapshot) {
            self.next().await;
        }
    }

    /// Follows until exactly these instances are there.
    pub(crate) async fn until_exactly(&mut self, wanted: &[&Instance]) {
        self.until(|snapshot| {
            snapshot.len() == wanted.len()
                && wanted
                    .iter()
                    .all(|i| snapshot.get(&i.id).is_some_and(|seen| **seen == **i))
        })
        .await;
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What was seen since the last call.
    pub(crate) fn take_updates(&mut self) -> Vec<Update> {
        std::mem::take(&mut self.updates)
    }
}
