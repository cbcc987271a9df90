//! A service's document: one key, without a lease.

use etcd_client::KeyValue;

use super::{
    list::{Range, Read},
    members::{Connection, Failure, Members},
    place::read,
    reader::revision,
    unowned::Unowned,
    watch::Watched,
};
use crate::{Document, FoundDocument, Revision};

/// Where a service's document is, or would be.
#[derive(Debug)]
pub(super) struct DocumentKey(pub(super) String);

impl DocumentKey {
    /// What is there now.
    pub(super) async fn read(&self, members: &Members) -> Result<FoundDocument, Failure> {
        Ok(found(Unowned(&self.0).read(members).await?.as_ref()))
    }

    /// Puts a document in place of what was there.
    pub(super) async fn set(&self, members: &Members, document: &Document) -> Result<(), Failure> {
        Unowned(&self.0).put(members, document.as_str()).await
    }

    /// Deletes the document, if there is one.
    pub(super) async fn delete(&self, members: &Members) -> Result<(), Failure> {
        Unowned(&self.0).delete(members).await
    }
}

impl Watched for DocumentKey {
    type Said = FoundDocument;

    fn range(&self) -> Range {
        let key = self.0.as_bytes();
        (key.into(), [key, &[0]].concat())
    }

    async fn list(
        &self,
        connection: &Connection,
        found_key: impl FnMut(&KeyValue) + Send,
    ) -> Result<(Read, FoundDocument), Failure> {
        let (revision, kv) = read(connection.clone(), self.0.clone()).await?;
        kv.iter().for_each(found_key);
        let count = i64::from(kv.is_some());
        Ok((Read { revision, count }, found(kv.as_ref())))
    }

    /// What was written last.
    fn said(&self, written: &[&KeyValue], _: Revision) -> Option<FoundDocument> {
        let last = written.last()?;
        // A deletion has no version, and no value.
        Some(found((last.version() > 0).then_some(*last)))
    }
}

fn found(kv: Option<&KeyValue>) -> FoundDocument {
    let document = |kv: &KeyValue| {
        let key = String::from_utf8_lossy(kv.key());
        let document = Document::from_bytes(kv.value())?;
        Ok(document.read_at(key, revision(kv.mod_revision())))
    };
    kv.map(document).transpose()
}
