//! What came of it, for a person and for a program.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use testkit::fleet::Figures;

/// How long it may take until all is right again: what a lease of ten seconds and an election may take, and then some.
pub(crate) const RIGHT_WITHIN: Duration = Duration::from_secs(30);

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

    /// Whether no call failed, and all was right again each time, in time, and at the end.
    pub(crate) fn held(&self) -> bool {
        let in_time = |one: &Incident| {
            one.right_again
                .as_ref()
                .is_ok_and(|took| *took <= RIGHT_WITHIN)
        };
        let called = |figures: &Figures| figures.calls > 0 && figures.failures == 0;
        self.problem.is_none()
            && self.figures.as_ref().is_some_and(called)
            && self.incidents.iter().all(in_time)
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
            "latency_us": figures.map(|figures| &figures.latency_us),
            "worst_recovery_s": tenths(self.worst_recovery()),
            "problem": self.problem,
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
            format!("{failures} of {calls} calls failed{said}, at {rps:.0} calls a second. ")
        });
        let faults = format!(
            "{} faults in {}, seed {}; the worst recovery took {}.",
            self.incidents.len(),
            seconds(self.took),
            self.seed,
            seconds(self.worst_recovery())
        );
        let problem = self.problem.as_ref();
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
