//! Tries that run beside one another until one succeeds (RFC 8305).

use std::{collections::VecDeque, pin::Pin, time::Duration};

use futures_util::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use registry::Address;
use tokio::{
    select,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    ConnectFailed, ConnectOptions,
    attempt::{attempt, look_up},
    failed::TryFailed,
    place::{Place, interleaved},
};
use crate::transport::connection::Connection;

/// How long one try is alone before the next begins (RFC 8305, section 8: "Connection Attempt Delay").
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

pub(super) struct Race<'a> {
    options: &'a ConnectOptions,
    look_ups: FuturesUnordered<BoxFuture<'a, Result<Vec<Place>, TryFailed>>>,
    attempts: FuturesUnordered<BoxFuture<'a, Result<Connection, TryFailed>>>,
    waiting: VecDeque<Place>,
    failed: Vec<TryFailed>,
}

impl<'a> Race<'a> {
    pub(super) fn new(addresses: &[Address], options: &'a ConnectOptions) -> Self {
        let names = addresses.iter().filter(|a| Place::known(a).is_none());
        let look_ups = names
            .map(|name| -> BoxFuture<'a, _> { Box::pin(look_up(name.clone(), options.patience)) });
        Self {
            options,
            look_ups: look_ups.collect(),
            attempts: FuturesUnordered::new(),
            waiting: interleaved(addresses.iter().filter_map(Place::known)),
            failed: Vec::new(),
        }
    }

    /// The first that succeeds; the others are dropped, and their sockets closed.
    pub(super) async fn run(mut self) -> Result<Connection, ConnectFailed> {
        let mut delay = Box::pin(sleep_until(Instant::now()));
        self.begin(delay.as_mut());
        loop {
            select! {
                biased;
                Some(ended) = self.attempts.next() => match ended {
                    Ok(connection) => return Ok(connection),
                    Err(failed) => {
                        self.failed.push(failed);
                        // A failure lets the next begin at once.
                        self.begin(delay.as_mut());
                    }
                },
                Some(found) = self.look_ups.next() => match found {
                    Ok(places) => self.waiting = interleaved(self.waiting.drain(..).chain(places)),
                    Err(failed) => self.failed.push(failed),
                },
                () = &mut delay, if !self.waiting.is_empty() => self.begin(delay.as_mut()),
                else => return Err(ConnectFailed(self.failed)),
            }
        }
    }

    fn begin(&mut self, delay: Pin<&mut Sleep>) {
        if let Some(place) = self.waiting.pop_front() {
            self.attempts.push(Box::pin(attempt(place, self.options)));
            delay.reset(Instant::now() + ATTEMPT_DELAY);
        }
    }
}
