//! One watch after another, for ever: what a snapshot and a document are followed with.

use std::time::Duration;

use futures_util::{
    StreamExt,
    stream::{self, BoxStream, FusedStream},
};
use tokio::time::sleep;

use crate::{Backoff, BackoffPolicy, ServiceName, StoreError, one_line};

const BACKOFF: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(50),
    max: Duration::from_millis(1_500),
    multiplier: 1.6,
    jitter: 0.2,
};

/// What is followed, for logs.
pub(crate) struct Subject<'a> {
    pub(crate) what: &'static str,
    pub(crate) service: &'a ServiceName,
    pub(crate) registry: &'a str,
}

/// Follows what `watch` starts, and starts it again whenever it ends. Tells all that is said, and each time why it ended;
/// never ends.
pub(crate) fn for_ever<T>(
    watch: impl Fn() -> BoxStream<'static, Result<T, StoreError>>,
) -> impl FusedStream<Item = Result<T, String>> {
    let following = Following {
        current: watch(),
        watch,
        broken: false,
        backoff: Backoff::new(BACKOFF),
    };
    stream::unfold(following, |mut following| async {
        Some((following.next().await, following))
    })
}

struct Following<T, W> {
    watch: W,
    current: BoxStream<'static, Result<T, StoreError>>,
    broken: bool,
    backoff: Backoff,
}

impl<T, W: Fn() -> BoxStream<'static, Result<T, StoreError>>> Following<T, W> {
    async fn next(&mut self) -> Result<T, String> {
        if self.broken {
            sleep(self.backoff.next_delay()).await;
            self.current = (self.watch)();
        }
        let said = match self.current.next().await {
            Some(said) => said.map_err(|error| one_line(&error)),
            None => Err("the watch ended".into()),
        };
        self.broken = said.is_err();
        said
    }
}
