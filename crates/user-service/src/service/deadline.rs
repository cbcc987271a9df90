//! How long a caller still waits.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Status, metadata::MetadataMap};

/// When the caller has no use for the answer any more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// What `grpc-timeout` says, counted from now; `otherwise` when the caller has none.
    pub(super) fn of(metadata: &MetadataMap, otherwise: Duration) -> Self {
        let timeout = balance::timeout_of(metadata.as_ref()).unwrap_or(otherwise);
        let now = Instant::now();
        Self(now.checked_add(timeout).unwrap_or(now + otherwise))
    }

    /// What is left of it.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` when nothing is.
    pub(super) fn left(self) -> Result<Duration, Status> {
        let left = self.0.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(super::status::too_late());
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_the_callers_timeout_less_the_time_since() {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "1500m".parse().expect("ASCII"));
        let deadline = Deadline::of(&metadata, Duration::from_mins(1));
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(deadline.left().expect("some"), Duration::from_millis(900));
        tokio::time::advance(Duration::from_secs(1)).await;
        let over = deadline.left().expect_err("nothing");
        assert_eq!(over.code(), tonic::Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_rubbish_has_the_usual_time() {
        let mut metadata = MetadataMap::new();
        let usual = Duration::from_secs(2);
        assert_eq!(Deadline::of(&metadata, usual).left().expect("some"), usual);
        metadata.insert("grpc-timeout", "soon".parse().expect("ASCII"));
        assert_eq!(Deadline::of(&metadata, usual).left().expect("some"), usual);
    }
}
