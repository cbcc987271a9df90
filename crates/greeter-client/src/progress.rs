//! What is seen while the calls are made: a bar on a terminal, a line a second elsewhere.

use std::{
    collections::VecDeque,
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    counts::Counts,
    live::Live,
    report::rate,
    text::{grouped, grouped_rate},
};

/// When the calls will be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    Count(u64),
    Duration(Duration),
    Never,
}

const BAR: &str = "{bar:30.cyan/dim} {percent:>3} %  {msg}";
/// How many instances a line names: a log of a thousand would be unreadable.
const NAMED: usize = 12;
/// What the figures of the moment are taken over.
const RECENTLY: Duration = Duration::from_secs(1);

/// stderr, as far as this program writes to it while calls are made.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    bar: Option<ProgressBar>,
    goal: Goal,
}

impl Screen {
    /// With `progress`, how far the calls are towards `goal` is shown.
    pub(crate) fn new(goal: Goal, progress: bool) -> Self {
        let bar = (progress && stderr().is_terminal()).then(|| progress_bar(goal));
        Self { bar, goal }
    }

    /// Prints a line, above the bar if there is one.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Shows how it goes, until dropped.
    pub(crate) async fn follow(&self, live: &Live) -> ! {
        let mut ticks = interval(match self.bar {
            Some(_) => Duration::from_millis(100),
            None => RECENTLY,
        });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut history = History::new(ticks.tick().await);
        loop {
            let now = ticks.tick().await;
            let moment = history.look(now, live.total());
            match &self.bar {
                Some(bar) => show(bar, self.goal, &moment),
                None => eprintln!("{}", line(&moment)),
            }
        }
    }

    /// Takes the bar away: what follows is the report.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn progress_bar(goal: Goal) -> ProgressBar {
    let (length, template) = match goal {
        Goal::Count(count) => (Some(count), BAR),
        Goal::Duration(duration) => (Some(millis(duration)), BAR),
        Goal::Never => (None, "{spinner:.cyan} {elapsed}  {msg}"),
    };
    let style = ProgressStyle::with_template(template).expect("the templates are well-formed");
    ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr()).with_style(style)
}

fn show(bar: &ProgressBar, goal: Goal, moment: &Moment) {
    // The position first: a message that comes with an old one would be drawn by itself.
    match goal {
        Goal::Count(_) => bar.set_position(moment.total.calls()),
        Goal::Duration(duration) => bar.set_position(millis(moment.elapsed.min(duration))),
        Goal::Never => bar.tick(),
    }
    bar.set_message(moment.summary());
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How it goes at one moment.
#[derive(Debug)]
struct Moment {
    elapsed: Duration,
    total: Counts,
    /// What came in the last `period`.
    recent: Counts,
    period: Duration,
}

impl Moment {
    /// `52,340 calls, 4,361/s, 0 failed, 3 instances`.
    fn summary(&self) -> String {
        let instances = self.recent.instances().len();
        format!(
            "{} calls, {}/s, {} failed, {instances} {}",
            grouped(self.total.calls()),
            self.rate(self.recent.calls()),
            grouped(self.total.failures()),
            if instances == 1 {
                "instance"
            } else {
                "instances"
            },
        )
    }

    fn rate(&self, calls: u64) -> String {
        grouped_rate(rate(calls, self.period))
    }
}

/// The summary with the time before it, and behind it the calls of each instance.
fn line(moment: &Moment) -> String {
    let instances = moment.recent.instances();
    let named: Vec<_> = instances
        .iter()
        .take(NAMED)
        .map(|(address, calls)| format!("{address} {}/s", moment.rate(*calls)))
        .collect();
    let seconds = moment.elapsed.as_secs_f64();
    let mut line = format!("{seconds:.0}s: {}", moment.summary());
    if !named.is_empty() {
        line = format!("{line}: {}", named.join(", "));
    }
    if instances.len() > NAMED {
        line = format!("{line} and {} more", instances.len() - NAMED);
    }
    line
}

/// The counts of the last second, to tell what is new.
#[derive(Debug)]
struct History {
    start: Instant,
    counts: VecDeque<(Instant, Counts)>,
}

impl History {
    fn new(start: Instant) -> Self {
        Self {
            start,
            counts: VecDeque::from([(start, Counts::default())]),
        }
    }

    /// Compares `total` with what it was a second before `now`, or at the start.
    fn look(&mut self, now: Instant, total: Counts) -> Moment {
        self.counts.push_back((now, total.clone()));
        // The front is the newest that is a second old.
        while self
            .counts
            .get(1)
            .is_some_and(|(then, _)| now - *then >= RECENTLY)
        {
            self.counts.pop_front();
        }
        let (then, earlier) = self
            .counts
            .front()
            .expect("one was pushed, and the last stays");
        Moment {
            elapsed: now - self.start,
            recent: total.since(earlier),
            period: now - *then,
            total,
        }
    }
}

#[cfg(test)]
mod tests {
    use registry::Address;

    use super::*;
    use crate::counts::Outcome;

    fn counts(calls: &[(&str, u64)]) -> Counts {
        let mut counts = Counts::default();
        for (by, times) in calls {
            let by = Some(Address::new(by).expect("an address"));
            let outcome = Outcome::Answered {
                greeting: "Hello".into(),
                by,
            };
            (0..*times).for_each(|_| counts.record(&outcome));
        }
        counts
    }

    #[test]
    fn a_line_tells_the_whole_and_the_last_second() {
        let start = Instant::now();
        let mut history = History::new(start);
        let second = |n| start + Duration::from_secs(n);
        history.look(second(1), counts(&[("a:1", 600), ("b:1", 600)]));
        let moment = history.look(second(2), counts(&[("a:1", 600), ("b:1", 1_800)]));
        assert_eq!(
            line(&moment),
            "2s: 2,400 calls, 1,200/s, 0 failed, 1 instance: b:1 1,200/s"
        );
    }

    #[test]
    fn the_figures_of_the_moment_are_over_one_second_however_often_it_is_looked() {
        let start = Instant::now();
        let mut history = History::new(start);
        for tenth in 1..=50 {
            let now = start + Duration::from_millis(tenth * 100);
            let moment = history.look(now, counts(&[("a:1", tenth * 10)]));
            assert_eq!(
                moment.period,
                Duration::from_millis(tenth * 100).min(RECENTLY)
            );
            assert_eq!(moment.rate(moment.recent.calls()), "100");
        }
        assert_eq!(history.counts.len(), 11);
    }

    #[test]
    fn a_line_names_no_more_instances_than_can_be_read() {
        let many: Vec<_> = (1..=20).map(|port| format!("a:{port}")).collect();
        let calls: Vec<_> = many.iter().map(|address| (address.as_str(), 1)).collect();
        let start = Instant::now();
        let moment = History::new(start).look(start + RECENTLY, counts(&calls));
        let line = line(&moment);
        assert!(line.ends_with("and 8 more"), "{line}");
    }
}
