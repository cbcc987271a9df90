//! A line for each thing that happens, and what to look at.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

use testkit::sight::Sight;
use tokio::time::Instant;

const BOLD: &str = "1";
const DIM: &str = "2";
const CYAN: &str = "36";
const RED: &str = "31";

/// How many characters the bars of all instances have together.
const BARS: f64 = 18.0;
/// How many characters of them one instance has room for: what a third of the calls takes.
const BAR: usize = 6;

/// How many characters of what somebody else says are shown.
const LINE: usize = 100;

/// Writes to stdout, each line with the seconds since the start before it.
#[derive(Debug, Clone)]
pub(crate) struct Narrator {
    start: Instant,
    color: bool,
}

impl Narrator {
    pub(crate) fn new() -> Self {
        // <https://no-color.org>
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            start: Instant::now(),
            color: io::stdout().is_terminal() && !plain,
        }
    }

    /// Something that is done.
    pub(crate) fn step(&self, what: &str) {
        let time = self.time();
        print(&format!(
            "\n{time}  {}",
            self.ink(BOLD, &format!("▶ {what}"))
        ));
    }

    /// What to look at from here on.
    pub(crate) fn look(&self, at: &str) {
        print(&format!(
            "{:10}{}",
            "",
            self.ink(CYAN, &format!("look: {at}"))
        ));
    }

    /// What the client sees.
    pub(crate) fn sight(&self, sight: &Sight) {
        let style = if sight.failed == "0" { DIM } else { RED };
        let failed = self.ink(style, &format!("{} failed", sight.failed));
        let instances: Vec<_> = sight
            .instances
            .iter()
            .map(|instance| {
                format!(
                    ":{} {}",
                    instance.port(),
                    self.ink(CYAN, &bar(instance.share))
                )
            })
            .collect();
        let (time, rate) = (self.time(), &sight.rate);
        print(&format!(
            "{time}    {rate:>7}/s  {failed}  {}",
            instances.join("  ")
        ));
    }

    /// Something that the client says, as much of it as fits into a line.
    pub(crate) fn aside(&self, text: &str) {
        let mut said: String = text.chars().take(LINE).collect();
        if said.len() < text.len() {
            said.push('…');
        }
        print(&format!("{}    {}", self.time(), self.ink(DIM, &said)));
    }

    fn time(&self) -> String {
        let seconds = format!("{:5.1}s", self.start.elapsed().as_secs_f64());
        self.ink(DIM, &seconds)
    }

    fn ink(&self, style: &str, text: &str) -> String {
        if self.color {
            format!("\u{1b}[{style}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// What came of a step.
pub(crate) fn detail(what: &str) {
    print(&format!("{:10}{what}", ""));
}

/// Writes a line as it is.
pub(crate) fn print(line: &str) {
    // Nobody may read it any more; the calls go on, and the exit code tells.
    let _ = writeln!(io::stdout(), "{line}");
}

/// A bar for a share of the calls, padded so that those of the next line stand below it.
fn bar(share: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is from 0 to 1"
    )]
    let cells = (share * BARS).round().max(1.0) as usize;
    format!("{:<BAR$}", "█".repeat(cells))
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bars_of_equal_shares_stand_below_one_another() {
        assert_eq!(bar(1.0 / 3.0), "██████");
        assert_eq!(bar(0.2), "████  ");
        assert_eq!(bar(0.0), "█     ");
    }
}
