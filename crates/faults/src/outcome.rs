//! What came of a fault, and the table of all.

use std::{fmt, time::Duration};

use anyhow::Result;
use comfy_table::{Table, presets};
use serde_json::json;

use crate::{faults::Fault, scene::Pace};

/// How much longer all may take beside other tests: they are after what holds, and a longer run is after how soon.
const BESIDE_OTHERS: Duration = Duration::from_secs(30);

/// What was seen while a fault was brought about, where everything held that is asserted on the way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// How many calls were made, and how many of them failed.
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    /// What they said, in words.
    pub(crate) failures: String,
    /// How many may fail.
    pub(crate) may_fail: MayFail,
    /// How long it took until everything was right again, and how long it may take.
    pub(crate) right_after: Option<(Duration, Duration)>,
    /// Further figures, for people.
    pub(crate) remark: String,
}

/// How many calls a fault may cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum MayFail {
    #[default]
    None,
    AtMost(u64),
    /// Nobody could be reached.
    Any,
}

impl MayFail {
    fn allows(self, failed: u64) -> bool {
        match self {
            Self::None => failed == 0,
            Self::AtMost(most) => failed <= most,
            Self::Any => true,
        }
    }
}

impl fmt::Display for MayFail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none may"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::Any => f.write_str("any may"),
        }
    }
}

/// What came of one fault.
pub(crate) struct Outcome {
    fault: &'static Fault,
    seen: Result<Seen>,
}

impl Outcome {
    pub(crate) fn of(fault: &'static Fault, seen: Result<Seen>) -> Self {
        Self { fault, seen }
    }

    /// The same of a fault that was brought about at such a pace.
    pub(crate) fn at(pace: Pace, fault: &'static Fault, seen: Result<Seen>) -> Self {
        let seen = seen.map(|seen| Seen {
            right_after: seen
                .right_after
                .map(|(took, bound)| (took, bound + pace.pick(Duration::ZERO, BESIDE_OTHERS))),
            ..seen
        });
        Self::of(fault, seen)
    }

    /// Whether everything held.
    pub(crate) fn held(&self) -> bool {
        self.problem().is_none()
    }

    fn problem(&self) -> Option<String> {
        let seen = match &self.seen {
            Ok(seen) => seen,
            Err(error) => return Some(format!("{error:#}")),
        };
        if !seen.may_fail.allows(seen.failed) {
            return Some(format!(
                "{} calls failed ({}): {}",
                seen.failed, seen.may_fail, seen.failures
            ));
        }
        match seen.right_after {
            Some((took, bound)) if took > bound => Some(format!(
                "right again after {}, and it may take {}",
                seconds(took),
                seconds(bound)
            )),
            _ => None,
        }
    }

    pub(crate) fn in_words(&self) -> String {
        match (&self.seen, self.problem()) {
            (_, Some(problem)) => format!("NOT HELD: {problem}"),
            (Ok(seen), None) => format!(
                "held: {} of {} calls failed{}",
                seen.failed,
                seen.calls,
                match seen.right_after {
                    Some((took, _)) => format!(", right again after {}", seconds(took)),
                    None => String::new(),
                }
            ),
            (Err(_), None) => unreachable!("an error is a problem"),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        let seen = self.seen.as_ref().ok();
        json!({
            "fault": self.fault.name,
            "held": self.held(),
            "problem": self.problem(),
            "calls": seen.map(|seen| seen.calls),
            "failed": seen.map(|seen| seen.failed),
            "may_fail": seen.map(|seen| seen.may_fail.to_string()),
            "right_after_s": seen.and_then(|seen| Some(seen.right_after?.0.as_secs_f64())),
            "right_within_s": seen.and_then(|seen| Some(seen.right_after?.1.as_secs_f64())),
            "remark": seen.map(|seen| &seen.remark),
        })
        .to_string()
    }

    fn row(&self) -> [String; 6] {
        let seen = self.seen.as_ref().ok();
        let of_seen = |text: &dyn Fn(&Seen) -> String| seen.map_or_else(String::new, text);
        [
            self.fault.what.to_owned(),
            of_seen(&|seen| seen.calls.to_string()),
            of_seen(&|seen| match seen.may_fail {
                MayFail::None => seen.failed.to_string(),
                may_fail => format!("{} ({may_fail})", seen.failed),
            }),
            of_seen(&|seen| match seen.right_after {
                Some((took, bound)) => format!("{} (≤ {})", seconds(took), seconds(bound)),
                None => String::new(),
            }),
            if self.held() { "yes" } else { "NO" }.to_owned(),
            self.problem()
                .unwrap_or_else(|| of_seen(&|seen| seen.remark.clone())),
        ]
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// All outcomes, in Markdown that can be read on a terminal as well; as wide as the terminal where it is one.
pub(crate) fn table(outcomes: &[Outcome], on_terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["fault", "calls", "failed", "right again", "held", "seen"]);
    if on_terminal {
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    }
    for outcome in outcomes {
        table.add_row(outcome.row());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::FAULTS;

    fn outcome(failed: u64, took: u64) -> Outcome {
        let right_after = Some((Duration::from_secs(took), Duration::from_secs(2)));
        let seen = Seen {
            calls: 100,
            failed,
            failures: "UNAVAILABLE 9".into(),
            may_fail: MayFail::AtMost(8),
            right_after,
            remark: String::new(),
        };
        Outcome::of(&FAULTS[0], Ok(seen))
    }

    #[test]
    fn nothing_is_said_to_have_held_that_has_not() {
        assert!(outcome(8, 2).held());
        assert!(
            outcome(9, 2)
                .in_words()
                .contains("9 calls failed (≤ 8): UNAVAILABLE 9")
        );
        assert!(
            outcome(8, 3)
                .in_words()
                .contains("after 3.0 s, and it may take 2.0 s")
        );
        let broken = Outcome::of(&FAULTS[0], Err(anyhow::anyhow!("no etcd")));
        assert!(!broken.held());
        assert!(broken.to_json().contains("no etcd"));
        let table = table(&[outcome(8, 2), broken], false).to_string();
        assert!(table.contains("8 (≤ 8)") && table.contains("NO"), "{table}");
    }
}
