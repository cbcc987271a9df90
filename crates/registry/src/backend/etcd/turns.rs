//! Whose turn it is to begin to follow something: a few at a time, so that thousands who have lost a member do not all come
//! to the next one at once.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{sleep, timeout},
};

/// How many list at the same time.
const AT_ONCE: usize = 8;
/// Who has to wait for others waits up to so long itself: some two thousand begin in a second.
const PACE: Duration = Duration::from_millis(6);
/// After once to twice this, whoever waits goes out of turn: what takes so long is no crowd, and is to be told.
const PATIENCE: Duration = Duration::from_secs(3);

/// The turns of one store.
#[derive(Debug)]
pub(super) struct Turns(Semaphore);

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _permit: Option<SemaphorePermit<'a>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Turns {
    /// Waits for a turn, a few seconds at the most. Cancellation safe.
    pub(super) async fn take(&self) -> Turn<'_> {
        let permit = match self.0.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => self.wait().await,
        };
        Turn { _permit: permit }
    }

    async fn wait(&self) -> Option<SemaphorePermit<'_>> {
        let patience = PATIENCE.mul_f64(1.0 + fastrand::f64());
        let permit = timeout(patience, self.0.acquire()).await;
        sleep(PACE.mul_f64(fastrand::f64())).await;
        permit.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::time::Instant;

    use super::{AT_ONCE, Duration, PACE, PATIENCE, Turns, sleep};

    #[tokio::test(start_paused = true)]
    async fn the_first_wait_for_nobody_and_the_others_for_a_turn() {
        const ALL: usize = 1_000;
        let turns = Turns::default();
        let listing = Duration::from_millis(1);
        let begun = Instant::now();
        let each = (0..ALL).map(|_| async {
            let _turn = turns.take().await;
            let waited = begun.elapsed();
            sleep(listing).await;
            waited
        });
        let mut waited = join_all(each).await;
        waited.sort_unstable();
        assert_eq!(waited[AT_ONCE - 1], Duration::ZERO);
        assert!(waited[AT_ONCE] > Duration::ZERO);
        let longest = (PACE + listing + listing) * u32::try_from(ALL / AT_ONCE).expect("few");
        assert!(waited[ALL - 1] < longest, "{waited:?}");
        assert!(waited[ALL - 1] > longest / 4, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_for_long_goes_out_of_turn() {
        let turns = Turns::default();
        let stuck = join_all((0..AT_ONCE).map(|_| turns.take())).await;
        let begun = Instant::now();
        let each = (0..100).map(|_| async {
            turns.take().await;
            begun.elapsed()
        });
        let waited = join_all(each).await;
        let (least, most) = (PATIENCE, PATIENCE * 2 + PACE + PACE);
        assert!(waited.iter().all(|wait| (least..most).contains(wait)));
        assert_ne!(waited.iter().min(), waited.iter().max(), "not all at once");
        drop(stuck);
    }
}
