//! A service's document: one key, without a lease.

use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp};

use super::{
    hold::transact,
    list::{Range, Read},
    members::{Connection, Failure, Members},
    place::read,
    reader::revision,
    watch::Watched,
};
use crate::{Document, FoundDocument, Revision};

/// Where a service's document is, or would be.
#[derive(Debug)]
pub(super) struct DocumentKey(pub(super) String);

impl DocumentKey {
    /// What is there now.
    pub(super) async fn read(&self, members: &Members) -> Result<FoundDocument, Failure> {
        let read = members.call(|connection| read(connection, self.0.clone()));
        Ok(found(read.await?.1.as_ref()))
    }

    /// Puts a document in place of what was there.
    pub(super) async fn set(&self, members: &Members, document: &Document) -> Result<(), Failure> {
        let put = TxnOp::put(self.0.as_str(), document.as_str(), None);
        self.write(members, put).await
    }

    /// Deletes the document, if there is one.
    pub(super) async fn delete(&self, members: &Members) -> Result<(), Failure> {
        self.write(members, TxnOp::delete(self.0.as_str(), None))
            .await
    }

    async fn write(&self, members: &Members, write: TxnOp) -> Result<(), Failure> {
        let found = members.call(|connection| read(connection, self.0.clone()));
        let seen = found.await?.1.map_or(0, |kv| kv.mod_revision());
        let write = self.unless_overtaken(seen, write);
        let written = members.call(|connection| transact(connection, write.clone()));
        written.await.map(drop)
    }

    /// Does it unless somebody has written since the revision that was seen, so that it can be tried again when it is not
    /// known whether it was done: a second time never undoes what somebody else has written after the first. Whoever
    /// writes in between is taken to have written after us.
    fn unless_overtaken(&self, seen: i64, write: TxnOp) -> Txn {
        let unchanged = Compare::mod_revision(self.0.as_str(), CompareOp::Equal, seen);
        Txn::new().when([unchanged]).and_then([write])
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

#[cfg(test)]
mod tests {
    use testkit::etcd::Cluster;

    use super::{Document, DocumentKey, Members, Txn, TxnOp, transact};
    use crate::Address;

    #[tokio::test]
    async fn a_write_that_is_tried_twice_undoes_nothing_that_came_between() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        let members = Members::new(vec![endpoint]);
        let key = DocumentKey("_service_config/greeter".into());
        let ours = TxnOp::put(key.0.as_str(), "ours", None);
        let (set, deletion) = (
            key.unless_overtaken(0, ours),
            TxnOp::delete(key.0.as_str(), None),
        );
        let again = async |write: Txn| {
            let done = members.call_once(|connection| transact(connection, write.clone()));
            done.await.expect("an answer")
        };
        let first = again(set.clone()).await.expect("nobody has written");
        let deletion = key.unless_overtaken(first, deletion);
        let theirs = Document::new("theirs").expect("a document");
        key.set(&members, &theirs).await.expect("it is written");
        assert_eq!(again(set).await, None);
        assert_eq!(again(deletion).await, None);
        let found = key.read(&members).await.expect("an answer");
        assert_eq!(found, Ok(Some(theirs)));
    }
}
