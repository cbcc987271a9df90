//! Watchers of single keys, all on one stream.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use tokio::time::{Instant, timeout_at};

use super::{
    members::{Connection, Failure, REQUEST},
    watching::check,
};

/// Watchers by the numbers that we give them; etcd counts its own from 0, so ours begin at 1.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    stream: Option<WatchStream>,
    numbers: HashMap<Arc<str>, i64>,
    last: i64,
    /// Those that are not confirmed yet, and the revision after which each is to begin.
    asked: HashMap<i64, i64>,
    /// When the last of them has to be confirmed.
    patience: Option<Instant>,
    cancelled: HashSet<i64>,
}

impl Watchers {
    /// Watches what comes after revision `known` at a key, if that is not watched already.
    pub(super) async fn add(
        &mut self,
        connection: &Connection,
        key: Arc<str>,
        known: i64,
    ) -> Result<(), Failure> {
        if self.numbers.contains_key(&key) {
            return Ok(());
        }
        self.last += 1;
        let options = WatchOptions::new()
            .with_watch_id(self.last)
            .with_start_revision(known.saturating_add(1));
        if let Some(stream) = &mut self.stream {
            let asked = connection.ask(stream.watch(&*key, Some(options)));
            asked.await?;
        } else {
            let connection = connection.renewed().await?;
            let mut client = connection.client.watch_client();
            let opened = connection.ask(client.watch(&*key, Some(options)));
            self.stream = Some(opened.await?);
        }
        self.numbers.insert(key, self.last);
        self.asked.insert(self.last, known);
        self.patience = Some(Instant::now() + REQUEST);
        Ok(())
    }

    /// Watches a key no more, if it is watched.
    pub(super) async fn cancel(
        &mut self,
        connection: &Connection,
        key: &str,
    ) -> Result<(), Failure> {
        if let (Some(number), Some(stream)) = (self.numbers.remove(key), &mut self.stream) {
            self.cancelled.insert(number);
            connection.ask(stream.cancel(number)).await?;
        }
        Ok(())
    }

    /// The next message with events; never, as long as nothing is watched. Cancellation safe.
    pub(super) async fn next(&mut self, connection: &Connection) -> Result<WatchResponse, Failure> {
        loop {
            let Some(stream) = &mut self.stream else {
                return std::future::pending().await;
            };
            let message = match self.patience.filter(|_| !self.asked.is_empty()) {
                None => stream.message().await,
                Some(patience) => match timeout_at(patience, stream.message()).await {
                    Ok(message) => message,
                    Err(_) => return Err(connection.complaint("it does not confirm a watch")),
                },
            };
            let message = message.map_err(|error| connection.failure(error))?;
            let number = message.as_ref().map_or(0, WatchResponse::watch_id);
            if message.as_ref().is_some_and(WatchResponse::canceled)
                && self.cancelled.remove(&number)
            {
                self.asked.remove(&number);
                continue;
            }
            let message = check(connection, message)?;
            if !message.created() {
                return Ok(message);
            }
            let there = connection.revision(message.header())?;
            let known = self.asked.remove(&number).unwrap_or_default();
            // After a wipe etcd would wait for a revision that it never reaches.
            if there < known {
                return Err(connection.complaint(format!(
                    "it stands at revision {there}, before {known}, which was read before"
                )));
            }
        }
    }
}
