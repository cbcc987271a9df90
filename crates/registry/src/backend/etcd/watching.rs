//! One watcher on a stream of its own, from a revision that a linearizable read on the same cluster gave.

use etcd_client::{WatchOptions, WatchResponse, WatchStream};

use super::members::{Connection, Failure};

/// A service of tens of thousands of instances that all change at once.
const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Watching(WatchStream);

impl Watching {
    /// Watches what comes after revision `known`.
    pub(super) async fn open(
        connection: &Connection,
        key: impl Into<Vec<u8>> + Send,
        options: WatchOptions,
        known: i64,
    ) -> Result<Self, Failure> {
        let options = options
            .with_start_revision(known.saturating_add(1))
            .with_progress_notify();
        let key: Vec<u8> = key.into();
        let mut client = connection
            .client
            .watch_client()
            .max_decoding_message_size(LARGEST_MESSAGE);
        let opened = connection.ask(async {
            let mut stream = client.watch(&*key, Some(options)).await?;
            let first = stream.message().await?;
            Ok((stream, first))
        });
        let (stream, first) = opened.await?;
        let first = check(connection, first).map_err(|failure| failure.about(&key))?;
        let there = connection.revision(first.header())?;
        // etcd takes a watch from a revision that it has yet to reach, and says nothing until then: after a wipe, never.
        if there < known {
            return Err(connection.complaint(format!(
                "it stands at revision {there}, before {known}, which was read before"
            )));
        }
        Ok(Self(stream))
    }

    /// The next message. Cancellation safe.
    pub(super) async fn next(&mut self, connection: &Connection) -> Result<WatchResponse, Failure> {
        let message = self.0.message().await;
        check(
            connection,
            message.map_err(|error| connection.failure(error))?,
        )
    }
}

/// Refuses the ways in which a message says that the watch is over.
pub(super) fn check(
    connection: &Connection,
    message: Option<WatchResponse>,
) -> Result<WatchResponse, Failure> {
    match message {
        None => Err(connection.complaint("it ended the watch")),
        Some(message) if message.compact_revision() > 0 => Err(connection.complaint(format!(
            "the watch fell behind the compaction at revision {}",
            message.compact_revision()
        ))),
        Some(message) if message.canceled() => Err(connection.cancelled(message.cancel_reason())),
        Some(message) => Ok(message),
    }
}

#[cfg(test)]
mod tests {
    use super::{WatchOptions, Watching};
    use crate::{Address, backend::etcd::members::Members};

    #[tokio::test]
    async fn a_watch_from_a_revision_that_is_yet_to_come_is_refused() {
        let cluster = testkit::etcd::Cluster::start_one().await.expect("an etcd");
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        let connection = Members::new(vec![endpoint])
            .connection()
            .await
            .expect("a connection");
        let open = async |known| {
            Watching::open(&connection, "key", WatchOptions::new(), known)
                .await
                .map(drop)
        };
        open(1).await.expect("etcd begins at 1");
        let refused = open(1_000)
            .await
            .expect_err("it would wait for ever")
            .to_string();
        assert!(refused.contains("revision 1, before 1000"), "{refused}");
    }
}
