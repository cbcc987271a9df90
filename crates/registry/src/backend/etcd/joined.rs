//! One service in each of its dialects, as one list.

use std::collections::BTreeSet;

use futures_util::{
    Stream, StreamExt,
    stream::{self, BoxStream, SelectAll},
};

use super::{
    members::Failure,
    merge::Merge,
    reader::{Event, Reader, Said},
};
use crate::{Change, InstanceId, Revision, Update, dialect::DialectName};

/// Makes one list of what is said in each dialect.
#[derive(Debug)]
pub(super) struct Joined {
    how: How,
    revision: Revision,
}

#[derive(Debug)]
enum How {
    /// By the ids that follow this in the keys: no two keys are one instance, so that nothing has to be remembered.
    Ids(String),
    /// By the rules of a merge, once all of these have told what there is.
    Merged(Merge, BTreeSet<usize>),
}

impl Joined {
    /// For what the `readers` will say, each of another dialect.
    pub(super) fn of(readers: &[Reader]) -> Self {
        let how = match readers {
            [only] if only.dialect().name() == DialectName::Etcd => How::Ids(only.prefix().into()),
            several => How::Merged(Merge::default(), (0..several.len()).collect()),
        };
        Self {
            how,
            revision: Revision::default(),
        }
    }

    /// Takes in what the reader of that place in the list has said, and tells what comes of it, if anything.
    pub(super) fn take(&mut self, place: usize, said: Said) -> Option<Change> {
        // One dialect's watch may be ahead of another's.
        self.revision = self.revision.max(said.revision);
        let events = said.events.into_iter();
        let updates: Vec<_> = match &mut self.how {
            How::Ids(prefix) => events.filter_map(|event| by_id(prefix, event)).collect(),
            How::Merged(merge, unheard) => {
                let updates: Vec<_> = events.flat_map(|e| merge.apply(place, e)).collect();
                let all_were_heard = unheard.is_empty();
                unheard.remove(&place);
                match (all_were_heard, unheard.is_empty()) {
                    (true, _) => updates,
                    (false, true) => vec![Update::Reset(merge.all())],
                    (false, false) => Vec::new(),
                }
            }
        };
        let revision = self.revision;
        (!updates.is_empty()).then_some(Change { revision, updates })
    }
}

fn by_id(prefix: &str, event: Event) -> Option<Update> {
    match event {
        Event::Listed(all) => {
            let instances = all.into_iter().map(|(_, instance)| instance);
            Some(Update::Reset(instances.collect()))
        }
        Event::Put(_, instance) => Some(Update::Upsert(instance)),
        Event::Gone(key) => {
            let id = InstanceId::new(key.strip_prefix(prefix)?);
            Some(Update::Remove(id.ok()?))
        }
    }
}

/// Follows one service by a watch for each dialect. The first item is a reset to all instances; it ends with the first
/// error of any watch.
pub(super) fn follow(
    joined: Joined,
    watches: Vec<BoxStream<'static, Result<Said, Failure>>>,
) -> impl Stream<Item = Result<Change, Failure>> {
    let each = watches.into_iter().enumerate();
    let numbered = each.map(|(place, watch)| watch.map(move |said| (place, said)).boxed());
    let watches = stream::select_all(numbered);
    stream::try_unfold((joined, watches), next)
}

type Numbered = BoxStream<'static, (usize, Result<Said, Failure>)>;

async fn next(
    (mut joined, mut watches): (Joined, SelectAll<Numbered>),
) -> Result<Option<(Change, (Joined, SelectAll<Numbered>))>, Failure> {
    while let Some((place, said)) = watches.next().await {
        if let Some(change) = joined.take(place, said?) {
            return Ok(Some((change, (joined, watches))));
        }
    }
    Ok(None)
}
