//! Waiting for a stream while all streams of all of an endpoint's connections are in use.

use std::{future::pending, pin::pin, sync::Arc};

use futures_util::{StreamExt, future::select_all, stream::FuturesUnordered};
use tokio::select;

use super::{Member, Ordering, Pool, is_usable};
use crate::transport::{Availability, Connection, Stream};

impl Pool {
    /// A stream on whichever connection has one first, also on one that is opened meanwhile; `None` when there is no
    /// connection left that a call may be sent to.
    ///
    /// It stands in the queue of each connection, and keeps its places there. Cancellation safe. It has no bound of its own.
    pub(in crate::subchannel) async fn stream(&self) -> Option<Stream> {
        let _waits = Waits::count(self);
        let mut queues = FuturesUnordered::new();
        let mut joined: Vec<Arc<Connection>> = Vec::new();
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            for member in self.usable() {
                if !joined.iter().any(|c| Arc::ptr_eq(c, &member.connection)) {
                    joined.push(Arc::clone(&member.connection));
                    queues.push(queue(member));
                }
            }
            self.wanted.notify_one();
            select! {
                biased;
                left = queues.next() => match left? {
                    Ok(stream) => return Some(stream),
                    Err(left) => joined.retain(|c| !Arc::ptr_eq(c, &left)),
                },
                () = changed => {}
            }
        }
    }

    /// Waits until there is a connection that a call may be sent to. Cancellation safe. It does not depend on the worker,
    /// which sees nothing of a silence that is over before it looks.
    pub(in crate::subchannel) async fn usable_again(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let members = self.members.load_full();
            let silent: Vec<_> = members
                .iter()
                .flat_map(|members| members.iter())
                .filter(|member| member.availability() != Availability::Closed)
                .map(|member| Box::pin(member.connection.changed(Availability::Silent)))
                .collect();
            if self.is_usable() {
                return;
            }
            let answers = async {
                if silent.is_empty() {
                    pending().await
                } else {
                    select_all(silent).await
                }
            };
            select! {
                _one = answers => {}
                () = changed => {}
            }
        }
    }

    fn usable(&self) -> Vec<Member> {
        let members = self.members.load();
        let members = members.iter().flat_map(|members| members.iter());
        members.filter(|m| m.is_usable()).cloned().collect()
    }
}

/// Waits for a stream for as long as the connection may be used; gives it back when that is over.
async fn queue(member: Member) -> Result<Stream, Arc<Connection>> {
    let stream = {
        let mut slot = pin!(member.connection.stream());
        loop {
            let now = member.availability();
            if !is_usable(now) {
                break None;
            }
            select! {
                biased;
                stream = &mut slot => break stream,
                _other = member.connection.changed(now) => {}
            }
        }
    };
    member.used.store(true, Ordering::Relaxed);
    stream.ok_or(member.connection)
}

/// Counts a call as waiting for as long as it is held. Not `Clone`: it is counted down once.
struct Waits<'p>(&'p Pool);

impl<'p> Waits<'p> {
    fn count(pool: &'p Pool) -> Self {
        pool.waiting.fetch_add(1, Ordering::AcqRel);
        Self(pool)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
