//! `discovery doctor`: what is wrong, and what to do.

mod instances;
mod members;
mod names;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{Cell, Color};
use serde::Serialize;
use service_kit::terminal::{Look, printable};
use tokio::time::Instant;

use crate::{args::positive_time, session::Session, words::count};

const EXAMPLE: &str = "\
Examples:
  discovery doctor
      Whether the registry answers, each of its members by itself, and what is in it: keys that
      are no instances, names that get into each other's way, leases that are about to end, what
      is wanted of instances that are gone, and instances that do not answer.
  discovery doctor --output json | jq '.findings[] | select(.level == \"problem\")'

A problem keeps calls or registrations from going well now, and makes the exit code 1; a warning
may come to that. It writes nothing, and connects to each instance once.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct DoctorArgs {
    /// How long an instance may take to accept a connection
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = positive_time)]
    connect_timeout: Duration,

    /// From which time on a member's answer is called slow: more than a round trip within a region takes
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = positive_time)]
    slow: Duration,
}

/// The shape of `--output json`.
#[derive(Serialize)]
struct Shape<'a> {
    registry: &'a str,
    findings: Vec<Finding>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Problem,
    Warning,
    Fine,
}

/// What was looked at, what was found, and what to do about it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    /// Which of the checks this is of: `registry`, `member`, `clock`, `key`, `name`, `lease`, `intent` or `instance`.
    check: &'static str,
    /// What it is about: a member's address, a service, an instance.
    subject: String,
    found: String,
    /// `None` where there is nothing to do.
    advice: Option<&'static str>,
}

impl Finding {
    fn fine(check: &'static str, subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            level: Level::Fine,
            check,
            subject: subject.into(),
            found: found.into(),
            advice: None,
        }
    }

    fn warning(self, advice: &'static str) -> Self {
        let (level, advice) = (Level::Warning, Some(advice));
        Self {
            level,
            advice,
            ..self
        }
    }

    fn problem(self, advice: &'static str) -> Self {
        let (level, advice) = (Level::Problem, Some(advice));
        Self {
            level,
            advice,
            ..self
        }
    }

    /// That the registry, or what it has of a service, cannot be read.
    fn unread(subject: &str, found: String) -> Self {
        Self::fine("registry", subject, found).problem(
            "see whether it can be reached from here and whether this user may read all of it",
        )
    }
}

impl DoctorArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        let mut findings = members::examine(session, self.slow).await;
        let began = Instant::now();
        let url = session.registry.url();
        match session.answer(session.registry.known_services()).await {
            Ok(services) => {
                let took = humantime::format_duration(Duration::from_millis(
                    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                ));
                let found = format!("has told of {} in {took}", count(services.len(), "service"));
                findings.push(Finding::fine("registry", url, found));
                findings.extend(names::examine(&services));
                findings.extend(instances::examine(session, &services, self.connect_timeout).await);
            }
            Err(error) => findings.push(Finding::unread(url, format!("{error:#}"))),
        }
        findings.sort_by_key(|finding| finding.level);
        let of = |level| {
            findings
                .iter()
                .filter(|finding| finding.level == level)
                .count()
        };
        let (problems, warnings) = (of(Level::Problem), of(Level::Warning));
        let shape = Shape {
            registry: url,
            findings,
        };
        session.show(&shape, |look| draw(&shape, look, problems, warnings))?;
        ensure!(
            problems == 0,
            "{} in {url}, as above",
            count(problems, "problem")
        );
        Ok(())
    }
}

fn draw(shape: &Shape<'_>, look: Look, problems: usize, warnings: usize) -> String {
    let mut table = look.table(&["", "about", "found", "what to do"]);
    for finding in &shape.findings {
        let (word, color) = match finding.level {
            Level::Problem => ("problem", Color::Red),
            Level::Warning => ("warning", Color::Yellow),
            Level::Fine => ("fine", Color::Green),
        };
        table.add_row([
            Cell::new(word).fg(color),
            Cell::new(format!(
                "{}\n{}",
                finding.check,
                printable(&finding.subject)
            )),
            Cell::new(printable(&finding.found)),
            Cell::new(finding.advice.unwrap_or_default()),
        ]);
    }
    let (problems, warnings) = (count(problems, "problem"), count(warnings, "warning"));
    format!("{table}\n{problems} and {warnings}.")
}
