//! Files that were closed and are locked all the same: the kernel tells of the close before it drops the lock, and
//! tells no more. So they are looked at again for about a second, less and less often.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    future::pending,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

const FIRST: Duration = Duration::from_millis(1);
/// 1 + 2 + 4 + … + 512 ms.
const LAST: Duration = Duration::from_millis(512);

/// Which files to look at again, and when.
#[derive(Debug, Default)]
pub(super) struct Recheck {
    names: BTreeSet<OsString>,
    /// When the next look is due, and how long after it the one after that.
    next: Option<(Instant, Duration)>,
}

impl Recheck {
    /// Starts over with these files as well; they are looked at now.
    pub(super) fn start(&mut self, closed: BTreeSet<OsString>) {
        if !closed.is_empty() {
            self.names.extend(closed);
            self.next = Some((Instant::now(), FIRST));
        }
    }

    /// Waits until a look is due, and says at what. Cancellation safe.
    pub(super) async fn due(&self) -> BTreeSet<OsString> {
        match self.next {
            Some((at, _)) => sleep_until(at).await,
            None => pending().await,
        }
        self.names.clone()
    }

    /// Plans the next look after one was taken: at those that still seem to live.
    pub(super) fn go_on(&mut self, is_live: impl Fn(&OsStr) -> bool) {
        self.names.retain(|name| is_live(name));
        let now = Instant::now();
        match self.next {
            Some((at, _)) if now < at => {}
            Some((_, delay)) if delay <= LAST && !self.names.is_empty() => {
                self.next = Some((now + delay, delay * 2));
            }
            _ => *self = Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::Recheck;

    fn closed() -> BTreeSet<std::ffi::OsString> {
        BTreeSet::from(["a.json".into()])
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_seems_to_live_is_looked_at_for_a_second_and_then_no_more() {
        let mut recheck = Recheck::default();
        recheck.start(closed());
        let started = Instant::now();
        let mut looks = Vec::new();
        recheck.go_on(|_| true);
        while recheck.next.is_some() {
            assert_eq!(recheck.due().await, closed());
            looks.push(started.elapsed().as_millis());
            recheck.go_on(|_| true);
        }
        // A timer may come up to a millisecond late.
        assert_eq!(looks.len(), 10, "{looks:?}");
        assert!(
            looks[0] <= 2 && (1_023..1_040).contains(&looks[9]),
            "{looks:?}"
        );
        assert!(recheck.due().now_or_never().is_none(), "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_whose_owner_is_gone_is_looked_at_no_more() {
        let mut recheck = Recheck::default();
        recheck.start(closed());
        recheck.go_on(|_| false);
        assert!(recheck.next.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn another_look_in_between_does_not_put_off_what_is_due() {
        let mut recheck = Recheck::default();
        recheck.start(closed());
        recheck.go_on(|_| true);
        let planned = recheck.next;
        recheck.go_on(|_| true);
        assert_eq!(recheck.next, planned);
        tokio::time::advance(Duration::from_millis(5)).await;
        assert!(recheck.due().now_or_never().is_some());
    }
}
