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

/// The whole run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    /// Calls a second that were asked for.
    pub(crate) rate: u32,
    pub(crate) took: Duration,
    pub(crate) incidents: Vec<Incident>,
    pub(crate) figures: Option<Figures>,
    /// What is wrong at the end, or with the run itself.
    pub(crate) problem: Option<String>,
    pub(crate) interrupted: bool,
}

impl Report {
    fn worst_recovery(&self) -> Duration {
        let times = self.incidents.iter().flat_map(|one| &one.right_again);
        times.max().copied().unwrap_or_default()
    }

    fn failed(&self) -> Option<u64> {
        self.figures.as_ref().map(|figures| figures.failures)
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
        let Some(figures) = &self.figures else {
            return Some("nobody knows what came of the calls".into());
        };
        if figures.failures > 0 {
            return Some("calls have failed".into());
        }
        let (rate, reached) = (self.rate, figures.rps);
        if reached < f64::from(rate) * REACHED {
            return Some(format!(
                "only {reached:.0} calls a second were made of the {rate} that were asked for; --rate asks for fewer"
            ));
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
        let figures = self.figures.as_ref();
        json!({
            "held": self.held(),
            "seed": self.seed,
            "took_s": tenths(self.took),
            "interrupted": self.interrupted,
            "faults": incidents.collect::<Vec<_>>(),
            "calls": figures.map(|figures| figures.calls),
            "failed": self.failed(),
            "statuses": figures.map(|figures| &figures.statuses),
            "calls_per_second": figures.map(|figures| figures.rps),
            "calls_per_second_asked": self.rate,
            "latency_us": figures.map(|figures| &figures.latency_us),
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
        let calls = self.figures.as_ref().map(|figures| {
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
            let rate = self.rate;
            format!("{failures} of {calls} calls failed{said}, at {rps:.0} calls a second of {rate} that were asked for. ")
        });
        let faults = format!(
            "{} faults in {}, seed {}; the worst recovery took {}.",
            self.incidents.len(),
            seconds(self.took),
            self.seed,
            seconds(self.worst_recovery())
        );
        let problem = self.not_held();
        let problem = problem.map(|problem| format!("NOT HELD: {problem}\n"));
        let (calls, problem) = (calls.unwrap_or_default(), problem.unwrap_or_default());
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

    fn report(failures: u64, right_again: Result<Duration, String>) -> Report {
        let figures = format!(
            r#"{{"calls":9,"failures":{failures},"statuses":{{"OK":9}},"rps":500.0,"latency_us":{{}},"instances":{{}}}}"#
        );
        Report {
            seed: 4,
            rate: 500,
            took: Duration::from_mins(1),
            incidents: vec![Incident {
                at: Duration::from_secs(2),
                what: "killed greeter-1".into(),
                lasted: Duration::from_secs(3),
                right_again,
                failed: failures,
            }],
            figures: Some(Figures::parse(&figures).expect("figures")),
            problem: None,
            interrupted: false,
        }
    }

    #[test]
    fn nothing_is_said_to_have_held_that_has_not() {
        let second = Duration::from_secs(1);
        assert!(report(0, Ok(second)).held());
        assert!(!report(1, Ok(second)).held());
        assert!(!report(0, Ok(RIGHT_WITHIN + second)).held());
        let never = report(0, Err("nobody answers".into()));
        assert!(!never.held() && never.drawn().contains("nobody answers"));
        assert_eq!(never.to_json()["faults"][0]["problem"], "nobody answers");
        let few = Report {
            rate: 600,
            ..report(0, Ok(second))
        };
        let told = "NOT HELD: only 500 calls a second were made of the 600 that were asked for";
        assert!(!few.held() && few.drawn().contains(told), "{}", few.drawn());
        assert_eq!(few.to_json()["calls_per_second_asked"], 600);
        let nearly = Report {
            rate: 550,
            ..report(0, Ok(second))
        };
        assert!(nearly.held(), "{}", nearly.drawn());
        let problem = Some("a member is down".to_owned());
        assert!(
            !Report {
                problem,
                ..report(0, Ok(second))
            }
            .held()
        );
        assert!(
            !Report {
                figures: None,
                ..report(0, Ok(second))
            }
            .held()
        );
    }

    #[test]
    fn the_worst_recovery_is_told() {
        let report = report(0, Ok(Duration::from_millis(2_340)));
        assert_eq!(report.to_json()["worst_recovery_s"], 2.3);
        assert!(
            report.drawn().contains("the worst recovery took 2.3 s"),
            "{}",
            report.drawn()
        );
    }
}
