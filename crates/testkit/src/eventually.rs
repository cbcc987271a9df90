//! Waiting for a condition with a bound: the one place that sleeps.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep, timeout_at};

const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `condition` says true.
///
/// # Panics
/// When it has not within `bound`; the message says `what` was waited for.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// let mut asked = 0;
/// testkit::eventually(Duration::from_secs(1), "the third question", async || {
///     asked += 1;
///     asked == 3
/// })
/// .await;
/// # }
/// ```
pub async fn eventually(bound: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let held = until(bound, what, async || {
        condition().await.then_some(()).context("it does not hold")
    });
    if let Err(error) = held.await {
        panic!("{error:#}");
    }
}

/// Tries `attempt` until it succeeds; after `bound` the error says `what` was waited for and why the last try failed.
pub async fn until<T>(
    bound: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + bound;
    let mut last = anyhow::anyhow!("the first try did not end");
    loop {
        match timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if Instant::now() + PAUSE >= deadline {
            return Err(last).with_context(|| format!("waited {bound:?} for {what}"));
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, until};

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_never_holds_is_given_up_with_its_last_cause() {
        let mut tries = 0;
        let error = until(Duration::from_secs(1), "the moon", async || {
            tries += 1;
            anyhow::bail!("try {tries}") as anyhow::Result<()>
        })
        .await
        .expect_err("it never holds");
        assert_eq!(
            format!("{error:#}"),
            format!("waited 1s for the moon: try {tries}")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_hangs_is_given_up_too() {
        let error = until(Duration::from_secs(1), "the moon", async || {
            std::future::pending::<anyhow::Result<()>>().await
        })
        .await
        .expect_err("it hangs");
        assert!(format!("{error:#}").contains("the moon"), "{error:#}");
    }
}
