//! Which keys of a range there are and when each was written: what a list found, or a watch has delivered.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use etcd_client::KeyValue;

/// The keys of a range, each with the revision at which it was written last.
///
/// A key is known by a digest, so that an entry takes some 17 to 39 bytes however long its key is. The digests of two keys
/// are the same once in 2⁶⁴ pairs, and nobody can choose keys so that they are: each one is made with secrets of this
/// process.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    secrets: RandomState,
    written: HashMap<Digest, i64>,
}

/// What a key is known by.
pub(super) type Digest = u64;

/// When the key of what a list has found, or an event has told, was written; 0 when it was deleted.
pub(super) fn written(kv: &KeyValue) -> i64 {
    // A deletion has no version.
    if kv.version() > 0 {
        kv.mod_revision()
    } else {
        0
    }
}

impl Known {
    /// Nothing, to be compared with this.
    pub(super) fn nothing(&self) -> Self {
        Self {
            secrets: self.secrets.clone(),
            written: HashMap::new(),
        }
    }

    /// Takes in what a list has found, or an event has told: when `key` was written last, or 0 when it is not there.
    /// Gives the key's digest.
    pub(super) fn take(&mut self, key: &[u8], written: i64) -> Digest {
        let digest = self.secrets.hash_one(key);
        if written > 0 {
            self.written.insert(digest, written);
        } else {
            self.written.remove(&digest);
        }
        digest
    }

    /// The revision at which a key was written last; 0 when it is not there.
    pub(super) fn written(&self, key: Digest) -> i64 {
        self.written.get(&key).copied().unwrap_or_default()
    }

    /// The keys that either has otherwise than the other.
    pub(super) fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Digest> + 'a {
        let changed = self.written.iter();
        let changed = changed.filter(|(key, written)| other.written(**key) != **written);
        let added = other.written.keys();
        let added = added.filter(|key| !self.written.contains_key(key));
        changed.map(|(key, _)| *key).chain(added.copied())
    }
}
