//! The writes of registrations that share a lease: those that wait for one another go to etcd in one transaction.
//!
//! A write that comes alone is sent at once. While as many as may be are under way, those that come wait, and the next
//! transaction takes them all: a process that registers very many instances pays etcd for few proposals. Their
//! comparisons and operations stand side by side in it. Transactions nested in one would be independent of one another,
//! but etcd before 3.4.42 and 3.5.28 asks nobody for permission there (CVE-2026-33343). So when one comparison does not hold, or etcd
//! refuses what one of them says, the transaction is cut in two until that one is alone.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use etcd_client::{Compare, Txn, TxnOp};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    select,
    sync::{OwnedMutexGuard, mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    members::{Failure, Members},
    put::Problem,
    transaction::transact,
};

/// How many comparisons, and how many operations, one transaction has at most; etcd refuses more than 128.
const AT_ONCE: usize = 100;
/// How many bytes of keys and values it has, unless a single write has more; etcd refuses 1.5 MiB.
const BYTES: usize = 512 * 1024;
/// How many transactions are under way at once.
const UNDER_WAY: usize = 2;
/// How many writes wait for one; whoever comes after them waits to be let in.
const WAITING: usize = 256;
/// How long a write waits to be let in, and how long to be sent.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be done if comparisons hold.
#[derive(Debug, Default)]
pub(super) struct Write {
    pub(super) comparisons: Vec<Compare>,
    pub(super) operations: Vec<TxnOp>,
    /// Of its keys and values.
    pub(super) bytes: usize,
}

/// The revision at which it was done; `None` when a comparison did not hold.
type Done = Result<Option<i64>, Problem>;

#[derive(Debug)]
struct Waiting {
    write: Write,
    came: Instant,
    tell: oneshot::Sender<Done>,
    _pending: OwnedMutexGuard<()>,
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

    /// What becomes of a write; `None` when nobody sends it any more, and it may have been sent.
    ///
    /// Dropped before it is sent, it is not. Dropped later, it is done or not, and is over when `pending` is given back.
    pub(super) async fn write(&self, write: Write, pending: OwnedMutexGuard<()>) -> Option<Done> {
        let Ok(room) = timeout(PATIENCE, self.0.reserve()).await else {
            return Some(Err(Problem::Busy));
        };
        let (tell, told) = oneshot::channel();
        room.ok()?.send(Waiting {
            write,
            came: Instant::now(),
            tell,
            _pending: pending,
        });
        told.await.ok()
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
        let mut together = Vec::new();
        let mut size = Size::default();
        loop {
            let next = match self.next.take() {
                Some(next) => next,
                None if together.is_empty() => match self.queue.recv().await {
                    Some(next) => next,
                    // Their owner is gone, and with it whoever polls this.
                    None => pending().await,
                },
                None => match self.queue.try_recv() {
                    Ok(next) => next,
                    Err(_) => return together,
                },
            };
            let Some(next) = next.in_time() else {
                continue;
            };
            size.add(&next.write);
            if !together.is_empty() && size.is_too_large() {
                self.next = Some(next);
                return together;
            }
            together.push(next);
        }
    }
}

impl Waiting {
    /// The write, if somebody waits for it still, and not for too long.
    fn in_time(self) -> Option<Self> {
        if self.came.elapsed() > PATIENCE {
            self.told(Err(Problem::Busy));
            return None;
        }
        Some(self).filter(Self::is_wanted)
    }

    fn is_wanted(&self) -> bool {
        !self.tell.is_closed()
    }

    fn told(self, done: Done) {
        // Who has given up meanwhile sees to what may be there.
        let _ = self.tell.send(done);
    }
}

#[derive(Debug, Default)]
struct Size {
    comparisons: usize,
    operations: usize,
    bytes: usize,
}

impl Size {
    fn add(&mut self, write: &Write) {
        self.comparisons += write.comparisons.len();
        self.operations += write.operations.len();
        self.bytes += write.bytes;
    }

    fn is_too_large(&self) -> bool {
        self.comparisons.max(self.operations) > AT_ONCE || self.bytes > BYTES
    }
}

/// Sends writes in one transaction, or in parts of it, and tells each what became of it.
async fn send(members: &Members, together: Vec<Waiting>) {
    let mut parts = vec![together];
    while let Some(mut part) = parts.pop() {
        part.retain(Waiting::is_wanted);
        if part.is_empty() {
            continue;
        }
        let all = transaction(&part);
        // Once: by the time of a second try a later process may have taken a key.
        let done = members.call_once(|connection| transact(connection, all.clone()));
        match done.await {
            Ok(Some(revision)) => tell(part, &Ok(Some(revision))),
            Err(failure) if !failure.is_of_content() => {
                // The others would fare no better.
                parts.push(part);
                return tell(parts.into_iter().flatten(), &Err(failure));
            }
            undone if part.len() == 1 => tell(part, &undone),
            _ => {
                let rest = part.split_off(part.len() / 2);
                parts.extend([rest, part]);
            }
        }
    }
}

fn transaction(writes: &[Waiting]) -> Txn {
    let comparisons = writes.iter().flat_map(|one| &one.write.comparisons);
    let operations = writes.iter().flat_map(|one| &one.write.operations);
    Txn::new()
        .when(comparisons.cloned().collect::<Vec<_>>())
        .and_then(operations.cloned().collect::<Vec<_>>())
}

fn tell(writes: impl IntoIterator<Item = Waiting>, done: &Result<Option<i64>, Failure>) {
    for one in writes {
        one.told(done.clone().map_err(Problem::from));
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::CompareOp;
    use futures_util::future::join_all;
    use testkit::etcd::Cluster;
    use tokio::sync::Mutex;
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

    /// A write of a seat of its own.
    async fn write(writes: &Writes, write: Write) -> Done {
        let pending = Arc::default();
        let done = writes.write(write, Mutex::lock_owned(pending).await);
        done.await.expect("it is sent")
    }

    fn put(key: &str) -> Write {
        Write {
            operations: vec![TxnOp::put(key, "x", None)],
            bytes: key.len() + 1,
            ..Write::default()
        }
    }

    async fn keys(cluster: &Cluster) -> usize {
        cluster.keys("greeter/").await.expect("keys").len()
    }

    #[tokio::test]
    async fn writes_that_wait_for_one_another_are_sent_together() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let (writes, _sender) = writes(&cluster);
        let all = (0..1_000).map(|number| write(&writes, put(&format!("greeter/{number}"))));
        for done in join_all(all).await {
            let revision = done.expect("an answer");
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
            write(
                &writes,
                Write {
                    comparisons: vec![as_known],
                    ..put(&key)
                },
            )
        });
        let done = join_all(all).await;
        let undone = done
            .iter()
            .enumerate()
            .filter(|(_, done)| done.as_ref().expect("an answer").is_none());
        assert_eq!(undone.map(|(number, _)| number).collect::<Vec<_>>(), [7]);
        assert_eq!(keys(&cluster).await, 49);
    }

    #[tokio::test]
    async fn a_write_that_etcd_refuses_fails_alone() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let (writes, _sender) = writes(&cluster);
        let all = (0..50).map(|number| match number {
            7 => write(&writes, put("")),
            number => write(&writes, put(&format!("greeter/{number}"))),
        });
        let done = join_all(all).await;
        let failed = done.iter().enumerate().filter(|(_, done)| done.is_err());
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
            write(
                &writes,
                Write {
                    comparisons: Vec::new(),
                    bytes: key.len() + large.len(),
                    operations: vec![TxnOp::put(key, large.as_str(), None)],
                },
            )
        });
        for done in join_all(all).await {
            done.expect("an answer");
        }
        let transactions = cluster.calls("Txn").await.expect("a count");
        assert_eq!(transactions, 6);
    }

    /// Whoever sends to a member that is not there.
    fn nowhere() -> (Writes, Sender) {
        let nowhere = Address::new("127.0.0.1:1").expect("an address");
        Writes::new(Arc::new(Members::new(vec![nowhere])))
    }

    #[tokio::test]
    async fn a_write_that_is_given_up_before_it_is_sent_is_not_and_its_seat_hears_when_it_is_over()
    {
        let (writes, mut sender) = nowhere();
        let seat = Arc::<Mutex<()>>::default();
        let pending = Arc::clone(&seat).lock_owned().await;
        let mut given_up = Box::pin(writes.write(put("greeter/a"), pending));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        drop(given_up);
        assert!(seat.try_lock().is_err(), "it waits still");
        let next = async { sender.together().await };
        let mut next = Box::pin(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        assert!(seat.try_lock().is_ok(), "nobody sends it any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_has_waited_for_too_long_is_refused_and_not_sent() {
        let (writes, sender) = nowhere();
        let late = write(&writes, put("greeter/a"));
        let sending = async {
            tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
            match sender.send_all().await {}
        };
        select! {
            done = late => assert!(matches!(done, Err(Problem::Busy)), "{done:?}"),
            () = sending => unreachable!(),
        }
    }
}
