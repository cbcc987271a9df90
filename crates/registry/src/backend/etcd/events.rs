//! All that happens in a range of keys, or an error: a silence is never taken on trust.
//!
//! After a silence a linearizable read decides whether there was nothing to say. A member that the others have left behind
//! cannot answer it: etcd answers such a read only when a majority has confirmed that it has seen everything. A progress
//! answer would prove nothing, since a watch that is stuck gives one too. HTTP/2 pings notice a dead member much sooner.

use std::{sync::Arc, time::Duration};

use etcd_client::WatchResponse;
use tokio::time::{Instant, timeout_at};

use super::{
    list::{Range, Read, changed_after, count},
    members::{Connection, Failure},
    watching::Watching,
};

/// How long what a read has seen may still be on its way to the watch.
pub(super) const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// A watch of a range from a revision on, at one member.
#[derive(Debug)]
pub(super) struct Events {
    connection: Arc<Connection>,
    range: Range,
    watching: Watching,
    /// The newest revision that was delivered.
    pub(super) delivered: i64,
    /// The newest revision at which nothing was missing.
    pub(super) checked: i64,
    /// How many keys there are, by what was delivered.
    pub(super) count: i64,
    /// After which silence to look whether something was missed.
    quiet: Duration,
    /// When something happened last, or a read has found that nothing did.
    silent_since: Instant,
    /// A read has seen what was not delivered.
    suspicious: bool,
}

impl Events {
    /// Watches what comes after `read`.
    pub(super) async fn open(
        connection: Arc<Connection>,
        range: Range,
        read: Read,
        quiet: Duration,
    ) -> Result<Self, Failure> {
        let watching = Watching::open(&connection, range.clone(), read.revision).await?;
        Ok(Self {
            connection,
            range,
            watching,
            delivered: read.revision,
            checked: read.revision,
            count: read.count,
            quiet,
            silent_since: Instant::now(),
            suspicious: false,
        })
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The next message, which may tell of nothing. Cancellation safe.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, Failure> {
        loop {
            let patience = if self.suspicious {
                ON_ITS_WAY
            } else {
                self.quiet
            };
            let message = self.watching.next(&self.connection);
            match timeout_at(self.silent_since + patience, message).await {
                Ok(message) => {
                    let message = message?;
                    self.hear(&message);
                    return Ok(message);
                }
                // In a box, as it takes 4 KiB, and comes seldom.
                Err(_) => Box::pin(self.doubt()).await?,
            }
        }
    }

    fn hear(&mut self, message: &WatchResponse) {
        for kv in message.events().iter().filter_map(|event| event.kv()) {
            // The header's revision may be ahead of events that come in a later message.
            self.delivered = self.delivered.max(kv.mod_revision());
            self.count = self.count.saturating_add(match kv.version() {
                0 => -1,
                1 => 1,
                _ => 0,
            });
            self.suspicious = false;
            self.silent_since = Instant::now();
        }
    }

    /// Compares what was delivered with what is there, after a silence.
    async fn doubt(&mut self) -> Result<(), Failure> {
        let is_missing = !self.is_untouched().await? && self.is_missing().await?;
        if is_missing && self.suspicious {
            return Err(self.connection.complaint("the watch has missed changes"));
        }
        self.suspicious = is_missing;
        self.silent_since = Instant::now();
        Ok(())
    }

    /// Whether nothing has changed in all of etcd, which costs it much less to tell than whether anything has in a range.
    async fn is_untouched(&self) -> Result<bool, Failure> {
        let one_key = (self.range.0.clone(), Vec::new());
        Ok(count(&self.connection, one_key).await?.revision == self.checked)
    }

    /// Whether there is anything that was not delivered.
    async fn is_missing(&mut self) -> Result<bool, Failure> {
        let (read, changed) =
            changed_after(&self.connection, self.range.clone(), self.delivered).await?;
        if read.revision < self.delivered {
            return Err(self.connection.complaint(format!(
                "it went back from revision {} to {}",
                self.delivered, read.revision
            )));
        }
        let is_missing = changed || read.count != self.count;
        if !is_missing {
            self.checked = read.revision;
        }
        Ok(is_missing)
    }
}

#[cfg(test)]
mod tests {
    use testkit::etcd::Cluster;

    use super::changed_after;
    use crate::{
        Address,
        backend::etcd::{list::range, members::Members},
    };

    #[tokio::test]
    async fn a_member_that_is_cut_off_from_the_others_cannot_say_that_nothing_was_missed() {
        let cluster = Cluster::start(3).await.expect("a cluster");
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        let members = Members::new(vec![endpoint]);
        let connection = members.connection().await.expect("a connection");
        let read = async || changed_after(&connection, range("greeter/"), 1).await;
        read().await.expect("it is one of three");
        for other in [1, 2] {
            cluster.pause(other).expect("it is paused");
        }
        read().await.expect_err("it is alone");
        for other in [1, 2] {
            cluster.resume(other).expect("it goes on");
        }
    }
}
