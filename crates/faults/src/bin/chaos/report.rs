//! What came of it, for a person and for a program.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use testkit::fleet::Figures;

/// How long it may take until all is right again: what a lease of ten seconds and an election may take, and then some.
pub(crate) const RIGHT_WITHIN: Duration = Duration::from_secs(30);

/// What part of the calls a second that are asked for has to be made: fewer calls notice less.
const REACHED: f64 = 0.9;

/// One fault, over.
#[derive(Debug, Clone)]
pub(crate) struct Incident {
    /// Since the beginning.
    pub(crate) at: Duration,
    /// What was done to whom: `killed discovery-greeter-2`.
    pub(crate) what: String,
    pub(crate) lasted: Duration,
    /// From its end until all was right; an error where it never was.
    pub(crate) right_again: Result<Duration, String>,
    /// Calls that failed from its beginning until then.
    pub(crate) failed: u64,
}

/// What came of one caller's calls.
#[derive(Debug)]
pub(crate) struct Called {
    /// Whom it called.
    pub(crate) service: &'static str,
    /// Calls a second that were asked for.
    pub(crate) rate: u32,
    /// An error where nobody knows.
    pub(crate) figures: Result<Figures, String>,
}

impl Called {
    /// Why this has not held; `None` when it has.
    fn not_held(&self) -> Option<String> {
        let Self {
            service,
            rate,
            figures,
        } = self;
        let figures = match figures {
            Ok(figures) => figures,
            Err(error) => {
                return Some(format!(
                    "nobody knows what came of the calls to {service}: {error}"
                ));
            }
        };
        if figures.failures > 0 {
            return Some(format!("calls to {service} have failed"));
        }
        let reached = figures.rps;
        (reached < f64::from(*rate) * REACHED).then(|| {
            format!("only {reached:.0} calls a second to {service} were made of the {rate} that were asked for")
        })
    }

    fn to_json(&self) -> Value {
        let figures = self.figures.as_ref().ok();
        json!({
            "service": self.service,
            "calls": figures.map(|figures| figures.calls),
            "failed": figures.map(|figures| figures.failures),
            "statuses": figures.map(|figures| &figures.statuses),
            "calls_per_second": figures.map(|figures| figures.rps),
            "calls_per_second_asked": self.rate,
            "latency_us": figures.map(|figures| &figures.latency_us),
        })
    }

    /// A sentence; none where nobody knows.
    fn drawn(&self) -> String {
        let Ok(figures) = &self.figures else {
            return String::new();
        };
        let said = figures.failures_in_words();
        let said = if said.is_empty() {
            said
        } else {
            format!(" ({said})")
        };
        let Figures {
            calls,
            failures,
            rps,
            ..
        } = figures;
        let Self { service, rate, .. } = self;
        format!(
            "{failures} of {calls} calls to {service} failed{said}, at {rps:.0} a second of {rate} that were asked for.\n"
        )
    }
}

/// The whole run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) took: Duration,
    pub(crate) incidents: Vec<Incident>,
    /// Of each caller.
    pub(crate) called: Vec<Called>,
    /// What is wrong at the end, or with the run itself.
    pub(crate) problem: Option<String>,
    pub(crate) interrupted: bool,
}

impl Report {
    fn worst_recovery(&self) -> Duration {
        let times = self.incidents.iter().flat_map(|one| &one.right_again);
        times.max().copied().unwrap_or_default()
    }

    /// Whether nearly as many calls were made as were asked for, none failed, and all was right again each time, in time, and at the
    /// end.
    pub(crate) fn held(&self) -> bool {
        self.not_held().is_none()
    }

    /// Why it has not held; `None` when it has.
    fn not_held(&self) -> Option<String> {
        if let Some(problem) = &self.problem {
            return Some(problem.clone());
        }
        if let Some(problem) = self.called.iter().find_map(Called::not_held) {
            return Some(problem);
        }
        let is_late = |one: &&Incident| {
            let right_again = one.right_again.as_ref();
            !right_again.is_ok_and(|took| *took <= RIGHT_WITHIN)
        };
        let late = self.incidents.iter().find(is_late)?;
        let what = &late.what;
        Some(format!("{what}: not right again within {RIGHT_WITHIN:?}"))
    }

    pub(crate) fn to_json(&self) -> Value {
        let incidents = self.incidents.iter().map(|one| {
            json!({
                "at_s": tenths(one.at),
                "what": one.what,
                "lasted_s": tenths(one.lasted),
                "right_again_after_s": one.right_again.as_ref().ok().map(|took| tenths(*took)),
                "problem": one.right_again.as_ref().err(),
                "failed": one.failed,
            })
        });
        json!({
            "held": self.held(),
            "seed": self.seed,
            "took_s": tenths(self.took),
            "interrupted": self.interrupted,
            "faults": incidents.collect::<Vec<_>>(),
            "callers": self.called.iter().map(Called::to_json).collect::<Vec<_>>(),
            "worst_recovery_s": tenths(self.worst_recovery()),
            "problem": self.not_held(),
        })
    }

    pub(crate) fn drawn(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["at", "fault", "lasted", "right again after", "failed calls"]);
        for one in &self.incidents {
            table.add_row([
                seconds(one.at),
                one.what.clone(),
                seconds(one.lasted),
                one.right_again
                    .as_ref()
                    .map_or_else(Clone::clone, |took| seconds(*took)),
                one.failed.to_string(),
            ]);
        }
        let calls: String = self.called.iter().map(Called::drawn).collect();
        let faults = format!(
            "{} faults in {}, seed {}; the worst recovery took {}.",
            self.incidents.len(),
            seconds(self.took),
            self.seed,
            seconds(self.worst_recovery())
        );
        let problem = self.not_held();
        let problem = problem.map(|problem| format!("NOT HELD: {problem}\n"));
        let problem = problem.unwrap_or_default();
        format!("{table}\n\n{calls}{faults}\n{problem}")
    }
}

fn tenths(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn called(service: &'static str, rate: u32, failures: u64) -> Called {
        let figures = format!(
            r#"{{"calls":9,"failures":{failures},"statuses":{{"OK":9}},"first_failures":{{}},"rps":500.0,"latency_us":{{}},"instances":{{}}}}"#
        );
        let figures = Figures::parse(&figures).map_err(|error| error.to_string());
        Called {
            service,
            rate,
            figures,
        }
    }

    fn report(user: Called, right_again: Result<Duration, String>) -> Report {
        Report {
            seed: 4,
            took: Duration::from_mins(1),
            incidents: vec![Incident {
                at: Duration::from_secs(2),
                what: "killed greeter-1".into(),
                lasted: Duration::from_secs(3),
                right_again,
                failed: 0,
            }],
            called: vec![called("greeter", 500, 0), user],
            problem: None,
            interrupted: false,
        }
    }

    fn well() -> Report {
        report(called("user", 500, 0), Ok(SECOND))
    }

    #[test]
    fn nothing_is_said_to_have_held_that_has_not() {
        assert!(well().held());
        assert!(!report(called("user", 500, 0), Ok(RIGHT_WITHIN + SECOND)).held());
        let never = report(called("user", 500, 0), Err("nobody answers".into()));
        assert!(!never.held() && never.drawn().contains("nobody answers"));
        assert_eq!(never.to_json()["faults"][0]["problem"], "nobody answers");
        let problem = Some("a member is down".to_owned());
        assert!(!Report { problem, ..well() }.held());
    }

    #[test]
    fn it_has_held_only_where_all_callers_say_so() {
        let failed = report(called("user", 500, 1), Ok(SECOND));
        let told = "NOT HELD: calls to user have failed";
        assert!(failed.drawn().contains(told), "{}", failed.drawn());
        assert_eq!(failed.to_json()["callers"][1]["failed"], 1);

        let few = report(called("user", 600, 0), Ok(SECOND));
        let told =
            "NOT HELD: only 500 calls a second to user were made of the 600 that were asked for";
        assert!(!few.held() && few.drawn().contains(told), "{}", few.drawn());
        assert_eq!(few.to_json()["callers"][1]["calls_per_second_asked"], 600);
        let nearly = report(called("user", 550, 0), Ok(SECOND));
        assert!(nearly.held(), "{}", nearly.drawn());

        let figures = Err("no JSON".to_owned());
        let unknown = Called {
            figures,
            ..called("user", 500, 0)
        };
        let unknown = report(unknown, Ok(SECOND));
        let told = "NOT HELD: nobody knows what came of the calls to user: no JSON";
        assert!(unknown.drawn().contains(told), "{}", unknown.drawn());
        let said = "0 of 9 calls to greeter failed, at 500 a second of 500 that were asked for.";
        assert!(unknown.drawn().contains(said), "{}", unknown.drawn());
    }

    #[test]
    fn the_worst_recovery_is_told() {
        let took = Ok(Duration::from_millis(2_340));
        let report = report(called("user", 500, 0), took);
        assert_eq!(report.to_json()["worst_recovery_s"], 2.3);
        let told = "the worst recovery took 2.3 s";
        assert!(report.drawn().contains(told), "{}", report.drawn());
    }
}
