//! A key that nobody holds: it has no lease, and the last writer wins.

use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp};

use super::{
    members::{Failure, Members},
    place::read,
    transaction::transact,
};

/// Where something stands, or would stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unowned<'a>(pub(super) &'a str);

impl Unowned<'_> {
    /// What is there now.
    pub(super) async fn read(self, members: &Members) -> Result<Option<KeyValue>, Failure> {
        let read = members.call(|connection| read(connection, self.0.to_owned()));
        Ok(read.await?.1)
    }

    /// Puts a value in place of what was there.
    pub(super) async fn put(self, members: &Members, value: &str) -> Result<(), Failure> {
        self.write(members, TxnOp::put(self.0, value, None)).await
    }

    /// Deletes what is there, if anything is.
    pub(super) async fn delete(self, members: &Members) -> Result<(), Failure> {
        self.write(members, TxnOp::delete(self.0, None)).await
    }

    async fn write(self, members: &Members, write: TxnOp) -> Result<(), Failure> {
        let found = self.read(members).await?;
        let seen = found.map_or(0, |kv| kv.mod_revision());
        let write = self.unless_overtaken(seen, write);
        let written = members.call(|connection| transact(connection, write.clone()));
        let about = |failure: Failure| failure.about(self.0);
        written.await.map(drop).map_err(about)
    }

    /// Does it unless somebody has written since the revision that was seen, so that it can be tried again when it is not
    /// known whether it was done: a second time never undoes what somebody else has written after the first. Whoever
    /// writes in between is taken to have written after us.
    fn unless_overtaken(self, seen: i64, write: TxnOp) -> Txn {
        let unchanged = Compare::mod_revision(self.0, CompareOp::Equal, seen);
        Txn::new().when([unchanged]).and_then([write])
    }
}

#[cfg(test)]
mod tests {
    use testkit::etcd::Cluster;

    use super::{Members, Txn, TxnOp, Unowned, transact};
    use crate::Address;

    #[tokio::test]
    async fn a_write_that_is_tried_twice_undoes_nothing_that_came_between() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        let members = Members::new(vec![endpoint]);
        let key = Unowned("_service_config/greeter");
        let ours = TxnOp::put(key.0, "ours", None);
        let (set, deletion) = (key.unless_overtaken(0, ours), TxnOp::delete(key.0, None));
        let again = async |write: Txn| {
            let done = members.call_once(|connection| transact(connection, write.clone()));
            done.await.expect("an answer")
        };
        let first = again(set.clone()).await.expect("nobody has written");
        let deletion = key.unless_overtaken(first, deletion);
        key.put(&members, "theirs").await.expect("it is written");
        assert_eq!(again(set).await, None);
        assert_eq!(again(deletion).await, None);
        let found = key.read(&members).await.expect("an answer");
        assert_eq!(found.expect("it is there").value(), b"theirs");
    }
}
