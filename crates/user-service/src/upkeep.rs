//! Keeps the storage usable for as long as the service runs, and says whether it is.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use service_kit::Readiness;
use tokio::{
    select,
    time::{Instant, sleep},
};

use crate::storage::{FORGOTTEN_AT_ONCE, Storage, StorageError};

/// How often a storage that is well is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Not more often than this, whatever operations find.
const REST: Duration = Duration::from_millis(100);
/// How long to wait before it is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long the answer to a request id is kept, and how often older ones are forgotten.
const REQUESTS: (Duration, Duration) = (Duration::from_hours(24), Duration::from_mins(10));

/// Prepares the storage, looks at it again and again, and prepares it anew when it was down. What it finds is the readiness
/// of the service.
pub(crate) async fn keep(storage: &Storage, readiness: &Readiness) -> Infallible {
    loop {
        prepare(storage, readiness).await;
        storage.set_usable(true);
        readiness.ready();
        tracing::info!("the storage can be used");
        let error = trouble(storage).await;
        storage.set_usable(false);
        tracing::warn!(
            error = registry::one_line(&error),
            "the storage cannot be used"
        );
        readiness.not_ready("the storage cannot be used");
    }
}

/// Tries until it is prepared and can be read.
async fn prepare(storage: &Storage, readiness: &Readiness) {
    let mut pause = RETRY.0;
    let mut told = None;
    loop {
        let outcome = async {
            storage.prepare().await?;
            storage.check().await
        };
        let Err(error) = outcome.await else { return };
        let text = registry::one_line(&error);
        readiness.not_ready(format!("the storage cannot be used: {text}"));
        // Once for each cause; a second instance that is at it is none.
        if told.as_ref() != Some(&text) && !matches!(error, StorageError::Preparing) {
            tracing::warn!(error = text, "the storage cannot be used yet; trying again");
            told = Some(text);
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// Looks at the storage each second, and at once when an operation finds it down, until it is; and at the connections that lie
/// idle.
async fn trouble(storage: &Storage) -> StorageError {
    let mut forget_at = Instant::now();
    loop {
        if let Err(error) = look(storage).await {
            return error;
        }
        storage.rest();
        let is_due = forget_at <= Instant::now();
        let is_more_left = is_due && forget_requests(storage).await;
        sleep(REST).await;
        if is_more_left {
            continue;
        }
        if is_due {
            forget_at = Instant::now() + REQUESTS.1;
        }
        select! {
            () = sleep(LOOK) => {}
            () = storage.trouble() => {}
        }
    }
}

/// Looks twice before it says that the storage is down, the second time by another connection: a session may be ended for its own sake,
/// and one answer be late.
async fn look(storage: &Storage) -> Result<(), StorageError> {
    let Err(error) = storage.check().await else {
        return Ok(());
    };
    let error = registry::one_line(&error);
    tracing::debug!(error, "the storage is looked at again");
    storage.check().await
}

/// Forgets some of them, and says whether there are more. Those that cannot be forgotten now are not asked for again at once.
async fn forget_requests(storage: &Storage) -> bool {
    let kept_for = i64::try_from(REQUESTS.0.as_micros()).unwrap_or(i64::MAX);
    let before = now_in_microseconds() - kept_for;
    match storage.forget_requests(before).await {
        Ok(count) => {
            if count > 0 {
                tracing::debug!(count, "forgot requests of more than a day ago");
            }
            count >= u64::from(FORGOTTEN_AT_ONCE)
        }
        Err(error) => {
            let error = registry::one_line(&error);
            tracing::warn!(error, "cannot forget old requests");
            false
        }
    }
}

/// The time, in microseconds since 1970.
pub(crate) fn now_in_microseconds() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
