//! One watch after another, for ever: what a snapshot and a document are followed with.

use std::{convert::Infallible, time::Duration};

use futures_util::{StreamExt, stream::BoxStream};

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

/// Follows what `watch` starts, and starts it again whenever it ends. `hear` is given all that is said, and each time why
/// it ended.
pub(crate) async fn for_ever<T>(
    watch: impl Fn() -> BoxStream<'static, Result<T, StoreError>>,
    hear: impl Fn(Result<T, &str>),
) -> Infallible {
    let mut backoff = Backoff::new(BACKOFF);
    loop {
        let cause = until_broken(watch(), &hear).await;
        hear(Err(&cause));
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Follows one watch to its end, and tells why it ended.
async fn until_broken<T>(
    mut watch: BoxStream<'static, Result<T, StoreError>>,
    hear: impl Fn(Result<T, &str>),
) -> String {
    loop {
        match watch.next().await {
            Some(Ok(said)) => hear(Ok(said)),
            Some(Err(error)) => return one_line(&error),
            None => return "the watch ended".into(),
        }
    }
}
