use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::yield_now,
    time::{Duration, Instant, advance},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Deadlines, Expire, Owner, Shared};

/// Says its name, and when, as it expires.
#[derive(Debug)]
struct Named(&'static str, UnboundedSender<(&'static str, Instant)>);

impl Expire for Named {
    fn expire(self) {
        assert_ne!(self.0, "one that panics");
        let _ = self.1.send((self.0, Instant::now()));
    }
}

struct Setup {
    deadlines: Deadlines<Named>,
    expired: UnboundedReceiver<(&'static str, Instant)>,
    sender: UnboundedSender<(&'static str, Instant)>,
    wake_ups: Arc<AtomicUsize>,
    start: Instant,
}

impl Setup {
    /// As `Deadlines::new` does it, but the keeper is counted each time it runs. It rests already.
    async fn new() -> Self {
        let shared = Arc::new(Shared::new());
        let wake_ups = Arc::new(AtomicUsize::new(0));
        let keep = Arc::clone(&shared).keep();
        let keeper = {
            let wake_ups = Arc::clone(&wake_ups);
            tokio::spawn(async move {
                let mut keep = pin!(keep);
                poll_fn(|cx| {
                    wake_ups.fetch_add(1, Ordering::Relaxed);
                    keep.as_mut().poll(cx)
                })
                .await;
            })
        };
        let deadlines = Deadlines(Arc::new(Owner {
            shared,
            _keeper: AbortOnDropHandle::new(keeper),
        }));
        let (sender, expired) = unbounded_channel();
        yield_now().await;
        wake_ups.store(0, Ordering::Relaxed);
        Self {
            deadlines,
            expired,
            sender,
            wake_ups,
            start: Instant::now(),
        }
    }

    fn named(&self, name: &'static str) -> Named {
        Named(name, self.sender.clone())
    }

    fn insert(&self, after: Duration, name: &'static str) -> super::Key {
        self.deadlines.insert(self.start + after, self.named(name))
    }

    /// Who expires next, and how long after the start.
    async fn next(&mut self) -> (&'static str, Duration) {
        let (name, at) = self.expired.recv().await.expect("a sender is kept here");
        (name, at - self.start)
    }

    fn wake_ups(&self) -> usize {
        self.wake_ups.load(Ordering::Relaxed)
    }
}

const MILLI: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn values_expire_in_the_order_of_their_deadlines_and_at_most_a_millisecond_late() {
    let mut setup = Setup::new().await;
    let deadlines = [
        ("far", Duration::from_mins(90)),
        ("at once", Duration::ZERO),
        ("near", 64 * MILLI),
        ("between", Duration::from_micros(1_234_567)),
        ("nearest", Duration::from_nanos(1)),
    ];
    for (name, after) in deadlines {
        setup.insert(after, name);
    }
    for expected in ["at once", "nearest", "near", "between", "far"] {
        let (name, at) = setup.next().await;
        assert_eq!(name, expected);
        let (_, due) = deadlines
            .iter()
            .find(|(name, _)| *name == expected)
            .unwrap();
        assert!(at >= *due && at <= *due + MILLI, "{name} at {at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_far_deadline_alone_wakes_the_keeper_a_few_times() {
    let mut setup = Setup::new().await;
    setup.insert(Duration::from_hours(1), "far");
    assert_eq!(setup.next().await, ("far", Duration::from_hours(1)));
    assert!(setup.wake_ups() <= 6, "{} times", setup.wake_ups());
}

#[tokio::test(start_paused = true)]
async fn calls_that_end_in_time_hardly_wake_the_keeper() {
    let setup = Setup::new().await;
    for _ in 0..10_000 {
        let key = setup
            .deadlines
            .insert(Instant::now() + Duration::from_secs(1), setup.named("call"));
        advance(MILLI).await;
        assert!(setup.deadlines.remove(key).is_some());
    }
    assert!(setup.wake_ups() <= 30, "{} times", setup.wake_ups());
}

#[tokio::test(start_paused = true)]
async fn an_empty_store_rests_for_ever() {
    let setup = Setup::new().await;
    advance(Duration::from_hours(1_000)).await;
    yield_now().await;
    assert_eq!(setup.wake_ups(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_deadline_wakes_the_keeper_and_a_later_one_does_not() {
    let mut setup = Setup::new().await;
    setup.insert(50 * MILLI, "first");
    yield_now().await;
    assert_eq!(setup.wake_ups(), 1);
    setup.insert(60 * MILLI, "later");
    yield_now().await;
    assert_eq!(setup.wake_ups(), 1);
    setup.insert(10 * MILLI, "earlier");
    assert_eq!(setup.next().await, ("earlier", 10 * MILLI));
    assert_eq!(setup.next().await, ("first", 50 * MILLI));
    assert_eq!(setup.next().await, ("later", 60 * MILLI));
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_does_not_expire() {
    let mut setup = Setup::new().await;
    let removed = setup.insert(10 * MILLI, "removed");
    let stays = setup.insert(20 * MILLI, "stays");
    assert_eq!(setup.deadlines.remove(removed).unwrap().0, "removed");
    assert!(setup.deadlines.remove(removed).is_none());
    assert_eq!(setup.next().await, ("stays", 20 * MILLI));
    assert!(setup.deadlines.remove(stays).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_value_is_changed_where_it_is_and_not_once_it_has_expired() {
    let mut setup = Setup::new().await;
    let key = setup.insert(10 * MILLI, "before");
    let rename = |value: &mut Named| std::mem::replace(&mut value.0, "after");
    assert_eq!(setup.deadlines.update(key, rename), Some("before"));
    assert_eq!(setup.next().await, ("after", 10 * MILLI));
    assert_eq!(setup.deadlines.update(key, rename), None);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_beyond_all_time_leaves_the_others_alone() {
    let mut setup = Setup::new().await;
    let shared = &setup.deadlines.0.shared;
    let never = shared
        .pending()
        .wheel
        .insert(u64::MAX, setup.named("never"));
    setup.insert(Duration::from_secs(1), "soon");
    assert_eq!(setup.next().await, ("soon", Duration::from_secs(1)));
    advance(Duration::from_hours(24 * 365)).await;
    assert!(setup.deadlines.remove(never).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_one_is_not_the_end_of_the_others() {
    let mut setup = Setup::new().await;
    setup.insert(10 * MILLI, "one that panics");
    setup.insert(20 * MILLI, "another");
    assert_eq!(setup.next().await, ("another", 20 * MILLI));
}

#[tokio::test(start_paused = true)]
async fn the_keeper_ends_with_the_last_clone_and_drops_what_is_left() {
    let Setup {
        deadlines,
        mut expired,
        sender,
        ..
    } = Setup::new().await;
    let shared = Arc::downgrade(&deadlines.0.shared);
    deadlines.insert(Instant::now() + MILLI, Named("left", sender));
    let clone = deadlines.clone();
    drop(deadlines);
    yield_now().await;
    assert!(shared.upgrade().is_some());
    drop(clone);
    assert_eq!(expired.recv().await, None, "dropped, and not expired");
    assert!(shared.upgrade().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_threads_each_value_is_either_removed_or_expires() {
    struct Counted(Arc<AtomicUsize>);
    impl Expire for Counted {
        fn expire(self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    const TASKS: u64 = 8;
    const EACH: u64 = 2_000;
    let expired = Arc::new(AtomicUsize::new(0));
    let deadlines = Deadlines::new();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (deadlines, expired) = (deadlines.clone(), Arc::clone(&expired));
            tokio::spawn(async move {
                let mut removed = 0;
                for n in 0..EACH {
                    let at = Instant::now() + Duration::from_micros((n * 7 + task) % 3_000);
                    let key = deadlines.insert(at, Counted(Arc::clone(&expired)));
                    if n % 8 == 0 {
                        yield_now().await;
                    }
                    if n % 3 != 0 {
                        removed += usize::from(deadlines.remove(key).is_some());
                    }
                }
                removed
            })
        })
        .collect();
    let mut removed = 0;
    for task in tasks {
        removed += task.await.unwrap();
    }
    let all = usize::try_from(TASKS * EACH).unwrap();
    tokio::time::timeout(Duration::from_secs(30), async {
        while removed + expired.load(Ordering::Relaxed) < all {
            yield_now().await;
        }
    })
    .await
    .expect("all that was not removed expires");
    assert_eq!(deadlines.0.shared.pending().wheel.len(), 0);
    assert_eq!(removed + expired.load(Ordering::Relaxed), all);
}
