//! Where an instance was read.

use std::sync::Arc;

use crate::Revision;

/// Where in its registry an instance or a document was read: what to look at when it is not what one thinks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// etcd's key, namespace and all; a file's path; the service and the id where the registry is in memory, or the service
    /// whose document it is; the place in a list, as in `greeter[0]`.
    pub key: Arc<str>,
    /// When it was written there. In etcd it is the key's `mod_revision`; of a file, its time of modification in
    /// nanoseconds since 1970; elsewhere the store's own count. Not to be compared with a snapshot's.
    pub revision: Revision,
}

/// Holds an [`Origin`] and is equal to any other: what is written anew, word for word, is the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Provenance(Option<Origin>);

impl Provenance {
    pub(crate) fn new(key: impl Into<Arc<str>>, revision: Revision) -> Self {
        let key = key.into();
        Self(Some(Origin { key, revision }))
    }

    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.0.as_ref()
    }
}

impl PartialEq for Provenance {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Provenance {}
