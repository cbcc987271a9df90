//! Transactions, and what their answers say.

use std::sync::Arc;

use etcd_client::{
    KeyValue, Txn, TxnOp, TxnResponse,
    proto::{PbResponseOp, PbTxnOpResponse},
};

use super::members::{Connection, Failure};

/// The revision of a transaction whose comparisons held.
pub(super) async fn transact(
    connection: Connection,
    transaction: Txn,
) -> Result<Option<i64>, Failure> {
    let mut client = connection.client.clone();
    let answer = connection.ask(client.txn(transaction)).await?;
    let revision = connection.revision(answer.header())?;
    Ok(answer.succeeded().then_some(revision))
}

/// The key-values as they are now, read linearizably, and at which revision that is.
pub(super) async fn read_all(
    connection: Connection,
    keys: &[Arc<str>],
) -> Result<(i64, Vec<Option<KeyValue>>), Failure> {
    let gets = keys.iter().map(|key| TxnOp::get(&**key, None));
    let all = Txn::new().and_then(gets.collect::<Vec<_>>());
    let mut client = connection.client.clone();
    let asked = connection.ask(client.txn(all)).await;
    let answer = asked.map_err(|failure| failure.about_one_of(keys))?;
    let revision = connection.revision(answer.header())?;
    let found = each(&connection, answer, keys.len(), |answer| match answer {
        PbTxnOpResponse::ResponseRange(mut found) => Some(found.kvs.pop().map(KeyValue)),
        _ => None,
    })?;
    Ok((revision, found))
}

/// What each of so many operations was answered.
fn each<T>(
    connection: &Connection,
    answer: TxnResponse,
    count: usize,
    of_one: impl Fn(PbTxnOpResponse) -> Option<T>,
) -> Result<Vec<T>, Failure> {
    let answers = answer.0.responses.into_iter();
    let of_one = |answer: PbResponseOp| answer.response.and_then(&of_one);
    let all: Option<Vec<_>> = answers.map(of_one).collect();
    all.filter(|all| all.len() == count).ok_or_else(|| {
        connection.complaint("it did not answer each of the operations of a transaction")
    })
}
