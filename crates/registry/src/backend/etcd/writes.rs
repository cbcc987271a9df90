//! The writes of registrations that share a lease: those that wait for one another go to etcd in one transaction.
//!
//! A write that comes alone is sent at once. While as many as may be are under way, those that come wait, and the next
//! transaction takes them all: a process that registers very many instances pays etcd for few proposals.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use etcd_client::{Compare, Txn, TxnOp};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    members::{Failure, Members},
    put::Problem,
    transaction::{transact, transact_all},
};

/// How many writes one transaction takes; etcd refuses one of more than 128 operations, in which it counts those of the
/// largest write beside the number of writes.
const AT_ONCE: usize = 100;
/// How many bytes of keys and values it takes, unless a single write has more; etcd refuses 1.5 MiB.
const BYTES: usize = 512 * 1024;
/// How many transactions are under way at once.
const UNDER_WAY: usize = 2;
/// How many writes wait for one; whoever comes after them waits to be let in.
const WAITING: usize = 256;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be done if comparisons hold.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) comparisons: Vec<Compare>,
    pub(super) operations: Vec<TxnOp>,
    /// Of its keys and values, roughly.
    pub(super) bytes: usize,
}

/// The revision at which it was done; `None` when a comparison did not hold.
type Done = Result<Option<i64>, Failure>;

#[derive(Debug)]
struct Waiting {
    transaction: Txn,
    bytes: usize,
    tell: oneshot::Sender<Done>,
}

/// The writes that wait.
#[derive(Debug)]
pub(super) struct Writes(mpsc::Sender<Waiting>);

/// Who sends them.
pub(super) struct Sender {
    members: Arc<Members>,
    queue: mpsc::Receiver<Waiting>,
    /// One that had no room among those that were sent last.
    next: Option<Waiting>,
}

impl Writes {
    /// Nothing that waits, and who is to send what will.
    pub(super) fn new(members: Arc<Members>) -> (Self, Sender) {
        let (send, queue) = mpsc::channel(WAITING);
        let sender = Sender {
            members,
            queue,
            next: None,
        };
        (Self(send), sender)
    }

    /// What becomes of a write; `None` when nobody sends it any more.
    ///
    /// Dropped before that is known, it may be done all the same.
    pub(super) async fn write(&self, write: Write) -> Option<Result<Option<i64>, Problem>> {
        let Ok(room) = timeout(PATIENCE, self.0.reserve()).await else {
            return Some(Err(Problem::Busy));
        };
        let (tell, told) = oneshot::channel();
        let transaction = Txn::new().when(write.comparisons);
        room.ok()?.send(Waiting {
            transaction: transaction.and_then(write.operations),
            bytes: write.bytes,
            tell,
        });
        let done = told.await.ok()?;
        Some(done.map_err(Problem::from))
    }
}

impl Sender {
    /// Sends what comes.
    pub(super) async fn send_all(mut self) -> Infallible {
        let members = Arc::clone(&self.members);
        let mut under_way = FuturesUnordered::new();
        loop {
            select! {
                together = self.together(), if under_way.len() < UNDER_WAY => {
                    under_way.push(Box::pin(send(&members, together)));
                }
                Some(()) = under_way.next() => {}
            }
        }
    }

    /// The writes for the next transaction, as soon as there is one. Cancellation safe.
    async fn together(&mut self) -> Vec<Waiting> {
        let first = match self.next.take() {
            Some(first) => first,
            None => match self.queue.recv().await {
                Some(first) => first,
                // Their owner is gone, and with it whoever polls this.
                None => pending().await,
            },
        };
        let mut bytes = first.bytes;
        let mut together = vec![first];
        while together.len() < AT_ONCE
            && let Ok(one) = self.queue.try_recv()
        {
            bytes += one.bytes;
            if bytes > BYTES {
                self.next = Some(one);
                break;
            }
            together.push(one);
        }
        // Who has given up before it was sent wants it no more.
        together.retain(|one| !one.tell.is_closed());
        together
    }
}

/// Sends writes in one transaction, and tells each what became of it. When etcd refuses one for what it says, the others
/// do not suffer for it: each is sent alone.
async fn send(members: &Members, mut together: Vec<Waiting>) {
    let is_one_of_many = together.len() > 1;
    let transactions: Vec<_> = together.iter().map(|one| one.transaction.clone()).collect();
    let done = match &transactions[..] {
        [] => return,
        [one] => {
            let done = members.call_once(|connection| transact(connection, one.clone()));
            done.await.map(|done| vec![done])
        }
        all => {
            let done = members.call_once(|connection| transact_all(connection, all.to_vec()));
            done.await
        }
    };
    match done {
        Ok(all) => {
            for (one, done) in together.into_iter().zip(all) {
                one.told(Ok(done));
            }
        }
        Err(failure) if is_one_of_many && !failure.is_members() => {
            for one in together.drain(..) {
                Box::pin(send(members, vec![one])).await;
            }
        }
        Err(failure) => {
            for one in together {
                one.told(Err(failure.clone()));
            }
        }
    }
}

impl Waiting {
    fn told(self, done: Done) {
        // Who has given up meanwhile sees to what may be there.
        let _ = self.tell.send(done);
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::CompareOp;
    use futures_util::future::join_all;
    use testkit::etcd::Cluster;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::Address;

    fn writes(cluster: &Cluster) -> (Writes, AbortOnDropHandle<Infallible>) {
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        let (writes, sender) = Writes::new(Arc::new(Members::new(vec![endpoint])));
        (
            writes,
            AbortOnDropHandle::new(tokio::spawn(sender.send_all())),
        )
    }

    fn put(key: &str) -> Write {
        Write {
            comparisons: Vec::new(),
            operations: vec![TxnOp::put(key, "x", None)],
            bytes: key.len() + 1,
        }
    }

    async fn keys(cluster: &Cluster) -> usize {
        cluster.keys("greeter/").await.expect("keys").len()
    }

    #[tokio::test]
    async fn writes_that_wait_for_one_another_are_sent_together() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let (writes, _sender) = writes(&cluster);
        let all = (0..1_000).map(|number| writes.write(put(&format!("greeter/{number}"))));
        for done in join_all(all).await {
            let revision = done.expect("it is sent").expect("an answer");
            assert!(revision.expect("it compares nothing") > 1);
        }
        assert_eq!(keys(&cluster).await, 1_000);
        let transactions = cluster.calls("Txn").await.expect("a count");
        assert!((10..=40).contains(&transactions), "{transactions}");
    }

    #[tokio::test]
    async fn a_write_whose_comparison_does_not_hold_is_left_undone_among_others() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let (writes, _sender) = writes(&cluster);
        let all = (0..50).map(|number| {
            let key = format!("greeter/{number}");
            let versions = i64::from(number == 7);
            let as_known = Compare::version(&*key, CompareOp::Equal, versions);
            writes.write(Write {
                comparisons: vec![as_known],
                ..put(&key)
            })
        });
        let done = join_all(all).await;
        let undone = done.iter().enumerate().filter(|(_, done)| {
            let answer = done.as_ref().expect("it is sent").as_ref();
            answer.expect("an answer").is_none()
        });
        assert_eq!(undone.map(|(number, _)| number).collect::<Vec<_>>(), [7]);
        assert_eq!(keys(&cluster).await, 49);
    }

    #[tokio::test]
    async fn a_write_that_etcd_refuses_fails_alone() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let (writes, _sender) = writes(&cluster);
        let all = (0..50).map(|number| match number {
            7 => writes.write(put("")),
            number => writes.write(put(&format!("greeter/{number}"))),
        });
        let done = join_all(all).await;
        let failed = done.iter().enumerate().filter(|(_, done)| {
            let answer = done.as_ref().expect("it is sent");
            answer.is_err()
        });
        assert_eq!(failed.map(|(number, _)| number).collect::<Vec<_>>(), [7]);
        assert_eq!(keys(&cluster).await, 49);
    }

    #[tokio::test]
    async fn very_large_writes_are_sent_apart() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let (writes, _sender) = writes(&cluster);
        let large = "x".repeat(300 * 1024);
        let all = (0..6).map(|number| {
            let key = format!("greeter/{number}");
            writes.write(Write {
                comparisons: Vec::new(),
                bytes: key.len() + large.len(),
                operations: vec![TxnOp::put(key, large.as_str(), None)],
            })
        });
        for done in join_all(all).await {
            done.expect("it is sent").expect("an answer");
        }
        let transactions = cluster.calls("Txn").await.expect("a count");
        assert_eq!(transactions, 6);
    }
}
