//! A whole run: the callers, and beside them what shows how it goes and what ends it.

use std::{future::pending, process, sync::Arc, time::Duration};

use service_kit::{
    Signals,
    terminal::{Readers, print, printable},
};
use tokio::time::{sleep, timeout};

use crate::{
    call::{Greet, Greeter},
    counts::{Outcome, code_name},
    live::Live,
    load::{self, Plan, Tell},
    pace::Budget,
    progress::{Goal, Screen},
    report::Report,
};

/// How long nobody may be there before it is said: a channel needs a moment to connect.
const GRACE: Duration = Duration::from_millis(300);
/// What a shell reports of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// A run, as the command line asked for it.
pub(crate) struct Run<'a> {
    pub(crate) greeter: Greeter,
    /// Whom it waits for, as a person would call it.
    pub(crate) service: &'a str,
    pub(crate) plan: Plan,
    pub(crate) goal: Goal,
    /// Whether to print a line for each call, and no progress.
    pub(crate) print_each: bool,
}

impl Run<'_> {
    /// Makes calls until the goal is reached or somebody asks for the end; then those in flight finish.
    pub(crate) async fn until_the_end(&self, signals: Signals) -> Report {
        let count = match self.goal {
            Goal::Count(count) => Some(count),
            Goal::Duration(_) | Goal::Never => None,
        };
        let budget = Arc::new(Budget::new(count));
        let live = Arc::new(Live::new(self.plan.concurrency));
        let screen = Screen::new(self.goal, !self.print_each);
        let tell = self
            .print_each
            .then(|| print_each(Arc::clone(&budget), screen.clone()));
        let tally = tokio::select! {
            tally = load::run(&self.greeter, self.plan, Arc::clone(&budget), Arc::clone(&live), tell) => tally,
            never = screen.follow(&live), if !self.print_each => never,
            never = say_when_waiting(&self.greeter, self.service, &screen), if self.greeter.waits() => never,
            never = close_when_due(&budget, self.goal, signals, &screen) => never,
        };
        screen.finish();
        tally.report()
    }
}

/// Says, once for each time, that there is nobody to call.
async fn say_when_waiting(greeter: &Greeter, service: &str, screen: &Screen) -> ! {
    loop {
        if timeout(GRACE, greeter.ready()).await.is_err() {
            let why = greeter
                .why_nobody()
                .map_or_else(String::new, |why| format!(": {why}"));
            screen.say(&format!("waiting for an instance of {service}{why}"));
            greeter.ready().await;
        }
        greeter.gone().await;
    }
}

/// Closes the budget when the time is over or somebody asks for it; who asks twice does not wait for calls in flight.
async fn close_when_due(budget: &Budget, goal: Goal, mut signals: Signals, screen: &Screen) -> ! {
    let over = async {
        match goal {
            Goal::Duration(duration) => sleep(duration).await,
            Goal::Count(_) | Goal::Never => pending().await,
        }
    };
    tokio::select! {
        () = over => {}
        _ = signals.next() => {}
    }
    budget.close();
    signals.next().await;
    screen.finish();
    process::exit(INTERRUPTED)
}

/// A greeting goes to stdout, a failure to stderr.
fn print_each(budget: Arc<Budget>, screen: Screen) -> Tell {
    Arc::new(move |number, outcome| match outcome {
        Outcome::Answered { greeting, .. } => {
            // Whoever read the lines has seen enough of them.
            if !matches!(
                print(&format!("{number}: {}\n", printable(greeting))),
                Ok(Readers::Reading)
            ) {
                budget.close();
            }
        }
        Outcome::Failed(status) => {
            let (code, message) = (code_name(status.code()), printable(status.message()));
            screen.say(&format!("{number}: {code}: {message}"));
        }
    })
}
