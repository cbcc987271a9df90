//! The callers: each makes one call after another until the budget is spent.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    call::Greet,
    counts::Outcome,
    live::Live,
    pace::{Budget, Pace},
    report::Tally,
};

/// How many callers there are, and how each spaces its calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    pub(crate) concurrency: usize,
    /// How long a caller rests after each of its calls.
    pub(crate) interval: Duration,
    /// Calls in a second over all callers.
    pub(crate) rate: Option<f64>,
}

/// What is told of each call as soon as it is over.
pub(crate) type Tell = Arc<dyn Fn(u64, &Outcome) + Send + Sync>;

/// Makes calls until the budget is spent or closed, and says what came of them. Dropped, it ends with its callers.
pub(crate) async fn run<G: Greet>(
    greeter: &G,
    plan: Plan,
    budget: Arc<Budget>,
    live: Arc<Live>,
    tell: Option<Tell>,
) -> Tally {
    let pace = plan.rate.map(|rate| Arc::new(Pace::per_second(rate)));
    let mut callers = JoinSet::new();
    for number in 0..plan.concurrency {
        let caller = Caller {
            number,
            greeter: greeter.clone(),
            interval: plan.interval,
            pace: pace.clone(),
            budget: Arc::clone(&budget),
            live: Arc::clone(&live),
            published: None,
            tell: tell.clone(),
            tally: Tally::default(),
        };
        callers.spawn(caller.call_until_spent());
    }
    let tallies = callers.join_all().await.into_iter();
    tallies.fold(Tally::default(), |mut all, tally| {
        all.merge(tally);
        all
    })
}

struct Caller<G> {
    number: usize,
    greeter: G,
    interval: Duration,
    pace: Option<Arc<Pace>>,
    budget: Arc<Budget>,
    live: Arc<Live>,
    published: Option<Instant>,
    tell: Option<Tell>,
    tally: Tally,
}

impl<G: Greet> Caller<G> {
    async fn call_until_spent(mut self) -> Tally {
        while let Some(call) = self.budget.take() {
            if !self.await_turn().await {
                break;
            }
            self.call(call).await;
            if !self.interval.is_zero() && !self.rest().await {
                break;
            }
        }
        self.publish();
        self.tally
    }

    /// Waits for an instance and for the schedule; false when the budget was closed meanwhile.
    async fn await_turn(&mut self) -> bool {
        if !self.greeter.is_ready() {
            self.publish();
            if !or_closed(&self.budget, self.greeter.ready()).await {
                return false;
            }
        }
        let Some(due) = self.pace.as_ref().map(|pace| pace.reserve()) else {
            return true;
        };
        // A moment that has passed is not worth a timer.
        due <= Instant::now() || or_closed(&self.budget, sleep_until(due)).await
    }

    async fn call(&mut self, call: u64) {
        let started = Instant::now();
        let outcome = self.greeter.greet().await;
        let ended = Instant::now();
        self.tally.record(started, ended, &outcome);
        if let Some(tell) = &self.tell {
            tell(call, &outcome);
        }
        if self.published.is_none_or(|last| ended - last >= Live::LAG) {
            self.publish();
        }
    }

    /// Rests after a call; false when there will be no other.
    async fn rest(&mut self) -> bool {
        self.publish();
        !self.budget.is_spent() && or_closed(&self.budget, sleep(self.interval)).await
    }

    fn publish(&mut self) {
        self.live.publish(self.number, self.tally.counts());
        self.published = Some(Instant::now());
    }
}

/// Waits for `event`; false when the budget was closed first.
async fn or_closed(budget: &Budget, event: impl Future<Output = ()>) -> bool {
    tokio::select! {
        biased;
        () = budget.closed() => false,
        () = event => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::{sync::watch, time::advance};
    use tonic::Status;

    use super::*;

    /// Answers after a while, once it is told that it may.
    #[derive(Clone)]
    struct Echo {
        takes: Duration,
        open: watch::Receiver<bool>,
        fails: bool,
    }

    impl Echo {
        fn new(takes: Duration) -> (Self, watch::Sender<bool>) {
            let (sender, open) = watch::channel(true);
            let fails = false;
            (Self { takes, open, fails }, sender)
        }
    }

    impl Greet for Echo {
        fn is_ready(&self) -> bool {
            *self.open.borrow()
        }

        async fn ready(&self) {
            let mut open = self.open.clone();
            open.wait_for(|open| *open)
                .await
                .expect("the test holds the other end");
        }

        async fn greet(&mut self) -> Outcome {
            sleep(self.takes).await;
            if self.fails {
                return Outcome::Failed(Status::internal("as asked"));
            }
            let greeting = "Hello".into();
            Outcome::Answered { greeting, by: None }
        }
    }

    fn plan(concurrency: usize) -> Plan {
        Plan {
            concurrency,
            interval: Duration::ZERO,
            rate: None,
        }
    }

    async fn calls(greeter: &Echo, plan: Plan, count: u64) -> (u64, Duration) {
        let start = Instant::now();
        let live = Arc::new(Live::new(plan.concurrency));
        let tally = run(
            greeter,
            plan,
            Arc::new(Budget::new(Some(count))),
            Arc::clone(&live),
            None,
        )
        .await;
        assert_eq!(
            live.total().calls(),
            tally.counts().calls(),
            "nothing is left unpublished"
        );
        (tally.counts().calls(), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_the_count() {
        let (echo, _open) = Echo::new(Duration::from_millis(10));
        let (made, took) = calls(&echo, plan(4), 10).await;
        assert_eq!((made, took), (10, Duration::from_millis(30)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_is_counted_after_each_call_and_not_after_the_last() {
        let (echo, _open) = Echo::new(Duration::from_millis(10));
        let interval = Duration::from_secs(1);
        let (made, took) = calls(
            &echo,
            Plan {
                interval,
                ..plan(1)
            },
            3,
        )
        .await;
        assert_eq!((made, took), (3, Duration::from_millis(2_030)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_holds_over_all_callers() {
        let (echo, _open) = Echo::new(Duration::from_millis(5));
        let rate = Some(100.0);
        let (made, took) = calls(&echo, Plan { rate, ..plan(8) }, 201).await;
        assert_eq!(made, 201);
        assert!(
            took.abs_diff(Duration::from_millis(2_005)) <= Duration::from_millis(2),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn callers_wait_for_an_instance_without_making_a_call() {
        let (echo, open) = Echo::new(Duration::from_millis(1));
        open.send_replace(false);
        let budget = Arc::new(Budget::new(Some(5)));
        let live = Arc::new(Live::new(2));
        let all = {
            let (budget, live) = (Arc::clone(&budget), Arc::clone(&live));
            tokio::spawn(async move { run(&echo, plan(2), budget, live, None).await })
        };
        advance(Duration::from_hours(1)).await;
        assert_eq!(live.total().calls(), 0);
        open.send_replace(true);
        let tally = all.await.expect("the callers end");
        assert_eq!(tally.counts().calls(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_the_budget_finishes_what_is_in_flight_and_nothing_else() {
        let (echo, _open) = Echo::new(Duration::from_secs(1));
        let budget = Arc::new(Budget::new(None));
        let running = {
            let budget = Arc::clone(&budget);
            tokio::spawn(
                async move { run(&echo, plan(3), budget, Arc::new(Live::new(3)), None).await },
            )
        };
        sleep(Duration::from_millis(1_500)).await;
        budget.close();
        let closed = Instant::now();
        assert_eq!(running.await.expect("the callers end").counts().calls(), 6);
        assert_eq!(closed.elapsed(), Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_rests_is_woken_by_the_end() {
        let (echo, _open) = Echo::new(Duration::ZERO);
        let budget = Arc::new(Budget::new(None));
        let hourly = Plan {
            interval: Duration::from_hours(1),
            ..plan(1)
        };
        let running = {
            let budget = Arc::clone(&budget);
            tokio::spawn(
                async move { run(&echo, hourly, budget, Arc::new(Live::new(1)), None).await },
            )
        };
        sleep(Duration::from_secs(1)).await;
        budget.close();
        let stopped = Instant::now();
        assert_eq!(running.await.expect("the caller ends").counts().calls(), 1);
        assert!(stopped.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn each_call_is_told_of_with_its_number() {
        let (mut echo, _open) = Echo::new(Duration::ZERO);
        echo.fails = true;
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell: Tell = {
            let told = Arc::clone(&told);
            Arc::new(move |number, outcome| {
                told.lock()
                    .expect("unpoisoned")
                    .push((number, outcome.code()));
            })
        };
        let budget = Arc::new(Budget::new(Some(2)));
        let tally = run(&echo, plan(1), budget, Arc::new(Live::new(1)), Some(tell)).await;
        let internal = tonic::Code::Internal;
        assert_eq!(
            *told.lock().expect("unpoisoned"),
            [(0, internal), (1, internal)]
        );
        assert_eq!(tally.counts().failures(), 2);
    }
}
