//! One watcher on a stream of its own, from a revision that a linearizable read on the same cluster gave.
//!
//! A member that has lost its leader ends the watch ([`Connection`] asks it to), and one that has much to tell at once sends
//! it in several messages.

use etcd_client::{WatchOptions, WatchResponse, WatchStream};

use super::{
    list::Range,
    members::{Connection, Failure},
};

/// A service of tens of thousands of instances that all change at once.
const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Watching(WatchStream);

impl Watching {
    /// Watches what comes after revision `known` in a range.
    pub(super) async fn open(
        connection: &Connection,
        (key, end): Range,
        known: i64,
    ) -> Result<Self, Failure> {
        let options = WatchOptions::new()
            .with_range(end)
            .with_start_revision(known.saturating_add(1))
            .with_progress_notify()
            .with_fragment();
        let connection = &connection.renewed().await?;
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
    use testkit::etcd::Cluster;

    use super::{Connection, Range, Watching};
    use crate::{
        Address,
        backend::etcd::{list::range, members::Members},
    };

    async fn connection(cluster: &Cluster) -> Connection {
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        let members = Members::new(vec![endpoint]);
        members.connection().await.expect("a connection")
    }

    fn keys() -> Range {
        range("a/")
    }

    #[tokio::test]
    async fn a_watch_from_a_revision_that_is_yet_to_come_is_refused() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let connection = connection(&cluster).await;
        let open = async |known| Watching::open(&connection, keys(), known).await.map(drop);
        open(1).await.expect("etcd begins at 1");
        for known in [1_000, i64::MAX] {
            let refused = open(known).await.expect_err("it would wait for ever");
            let refused = refused.to_string();
            let says = format!("revision 1, before {known}");
            assert!(refused.contains(&says), "{refused}");
        }
    }

    #[tokio::test]
    async fn what_is_too_much_for_one_message_comes_in_several() {
        const VALUES: usize = 12;
        const LARGE: usize = 1_000_000;
        let cluster = Cluster::start_one().await.expect("an etcd");
        let connection = connection(&cluster).await;
        let mut client = connection.client.clone();
        for number in 0..VALUES {
            let put = client.put(format!("a/{number}"), vec![b'x'; LARGE], None);
            put.await.expect("it is put");
        }
        let watching = Watching::open(&connection, keys(), 1).await;
        let mut watching = watching.expect("a watch");
        let mut told = 0;
        while told < VALUES {
            let message = watching.next(&connection).await.expect("a message");
            let events = message.events().iter();
            let sizes = events.filter_map(|event| Some(event.kv()?.value().len()));
            let sizes: Vec<_> = sizes.collect();
            told += sizes.len();
            assert!(sizes.iter().sum::<usize>() <= 2 * LARGE, "{sizes:?}");
        }
        assert_eq!(told, VALUES);
    }
}
