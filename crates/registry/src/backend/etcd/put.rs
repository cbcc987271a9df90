//! The keys of one registration, written and deleted in one transaction.

use std::sync::Arc;

use etcd_client::{Compare, CompareOp, KeyValue, PutOptions, TxnOp};

use super::{
    group::{Groups, NoLease},
    members::Failure,
    seat::Seat,
    transaction::read_all,
    writes::Write,
};
use crate::Revision;

/// How often a write that somebody crosses is made anew.
const TRIES: usize = 3;

/// A key and what is to stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Arc<str>,
    pub(super) value: Vec<u8>,
}

impl Entry {
    /// In a write: its key is compared as well.
    fn bytes(&self) -> usize {
        2 * self.key.len() + self.value.len()
    }
}

/// Why a registration could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    Etcd(#[from] Failure),
    #[error(transparent)]
    NoLease(#[from] NoLease),
    #[error("the lease was lost meanwhile: {0}")]
    LeaseLost(String),
    #[error("too many others are being registered at the same time")]
    Busy,
    #[error("its key changes hands too fast")]
    Crossed,
    #[error("its key is not held by this process any more")]
    NotOurs,
    #[error("{0}")]
    Superseded(String),
}

impl Problem {
    /// Whether etcd said that there is no such lease.
    pub(super) fn is_lease_not_found(&self) -> bool {
        matches!(self, Self::Etcd(failure) if failure.is_lease_not_found())
    }

    /// Whether it is certain that nothing was written.
    pub(super) fn wrote_nothing(&self) -> bool {
        match self {
            Self::Etcd(failure) => failure.wrote_nothing(),
            Self::LeaseLost(_) => false,
            Self::NoLease(_) | Self::Busy | Self::Crossed | Self::NotOurs | Self::Superseded(_) => {
                true
            }
        }
    }
}

/// What is to be put under a lease, and which of its keys are to be deleted in the same step.
pub(super) struct Put<'a> {
    pub(super) groups: &'a Groups,
    pub(super) seat: &'a Seat,
    pub(super) lease: i64,
    pub(super) entries: &'a [Entry],
    pub(super) gone: &'a [Arc<str>],
}

impl Put<'_> {
    /// Writes it whoever has the keys, and says at which revision.
    pub(super) async fn at_once(&self) -> Result<i64, Problem> {
        let written = self.when(Vec::new(), Vec::new()).await?;
        written.ok_or(Problem::Crossed)
    }

    /// Writes it unless somebody has put one of the keys after a revision, and says at which.
    pub(super) async fn unless_newer(&self, than: Revision) -> Result<Option<i64>, Problem> {
        let later = i64::try_from(than.0).map_or(i64::MAX, |than| than.saturating_add(1));
        let is_older = |entry: &Entry| Compare::mod_revision(&*entry.key, CompareOp::Less, later);
        let all_are = self.entries.iter().map(is_older).collect();
        self.when(all_are, Vec::new()).await
    }

    /// Looks at the keys, writes unless `judge` has something against what is at one of them, and says at which revision;
    /// deletes only what has the lease.
    pub(super) async fn after_a_look(
        &self,
        judge: impl Fn(&Arc<str>, Option<&KeyValue>) -> Result<(), Problem>,
    ) -> Result<i64, Problem> {
        let put = self.entries.iter().map(|entry| &entry.key);
        let keys: Vec<_> = put.chain(self.gone).cloned().collect();
        let _turn = self.groups.turn().await.ok_or(Problem::Busy)?;
        for _ in 0..TRIES {
            let read = self
                .groups
                .members
                .call(|connection| read_all(connection, &keys));
            let (_, found) = Box::pin(read).await?;
            let (mut unchanged, mut deletes) = (Vec::new(), Vec::new());
            for (number, (key, found)) in keys.iter().zip(&found).enumerate() {
                let seen = found.as_ref().map_or(0, KeyValue::mod_revision);
                if number < self.entries.len() {
                    judge(key, found.as_ref())?;
                } else if found.as_ref().is_some_and(|kv| kv.lease() == self.lease) {
                    deletes.push(TxnOp::delete(&**key, None));
                }
                unchanged.push(Compare::mod_revision(&**key, CompareOp::Equal, seen));
            }
            if let Some(revision) = self.when(unchanged, deletes).await? {
                return Ok(revision);
            }
        }
        Err(Problem::Crossed)
    }

    /// Writes and deletes if the comparisons hold; `None` when they do not.
    async fn when(
        &self,
        comparisons: Vec<Compare>,
        deletes: Vec<TxnOp>,
    ) -> Result<Option<i64>, Problem> {
        let put = |entry: &Entry| {
            let options = PutOptions::new().with_lease(self.lease);
            TxnOp::put(&*entry.key, entry.value.clone(), Some(options))
        };
        let written = self.seat.write(Write {
            comparisons,
            operations: self.entries.iter().map(put).chain(deletes).collect(),
            bytes: self.entries.iter().map(Entry::bytes).sum(),
        });
        written.await.map_err(|problem| match problem {
            Problem::Etcd(failure) => {
                let keys: Vec<_> = self.entries.iter().map(|entry| &*entry.key).collect();
                Problem::Etcd(failure.about_one_of(&keys))
            }
            problem => problem,
        })
    }
}
