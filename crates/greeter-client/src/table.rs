//! The figures for a person.

use comfy_table::{Cell, Color, Table};
use service_kit::terminal::{Look, align_right, printable};

use crate::{
    report::Report,
    text::{bar, grouped, grouped_rate, latency},
};

/// How many characters the longest bar has.
const BAR: u64 = 30;

/// The whole report: the figures, the calls of each instance, what the first failures said, and the sentence that
/// sums it up.
pub(crate) fn draw(report: &Report, look: Look) -> String {
    let mut lines = vec![figures(report, look).to_string()];
    if !report.instances.is_empty() {
        lines.push(instances(report, look).to_string());
    }
    for (status, message) in &report.first_failures {
        lines.push(format!("first {status}: {}", printable(message)));
    }
    let (calls, failures) = (grouped(report.calls), grouped(report.failures));
    let were = if report.calls == 1 {
        "call was"
    } else {
        "calls were"
    };
    lines.push(format!("{calls} {were} made and {failures} failed.\n"));
    lines.join("\n")
}

fn figures(report: &Report, look: Look) -> Table {
    let mut table = look.table(&["calls", "failures", "calls/s", "p50", "p99", "p99.9", "max"]);
    let times = report.latency_us;
    let failures = Cell::new(failures(report)).fg(match report.failures {
        0 => Color::Green,
        _ => Color::Red,
    });
    table.add_row(vec![
        Cell::new(grouped(report.calls)),
        failures,
        Cell::new(grouped_rate(report.rps)),
        Cell::new(latency(times.p50)),
        Cell::new(latency(times.p99)),
        Cell::new(latency(times.p999)),
        Cell::new(latency(times.max)),
    ]);
    align_right(&mut table, 0..7);
    table
}

/// `0`, or `3 (DEADLINE_EXCEEDED 1, UNAVAILABLE 2)`.
fn failures(report: &Report) -> String {
    if report.failures == 0 {
        return "0".into();
    }
    let by_status: Vec<_> = report
        .statuses
        .iter()
        .filter(|(status, _)| **status != "OK")
        .map(|(status, calls)| format!("{status} {}", grouped(*calls)))
        .collect();
    format!("{} ({})", grouped(report.failures), by_status.join(", "))
}

fn instances(report: &Report, look: Look) -> Table {
    let mut table = look.table(&["instance", "calls", "share", ""]);
    let all: u64 = report.instances.values().sum();
    let most = report.instances.values().copied().max().unwrap_or(0);
    for (instance, calls) in &report.instances {
        let share = *calls as f64 / all as f64 * 100.0;
        table.add_row(vec![
            Cell::new(instance),
            Cell::new(grouped(*calls)),
            Cell::new(format!("{share:.1} %")),
            Cell::new(bar(*calls, most, BAR)).fg(Color::Cyan),
        ]);
    }
    align_right(&mut table, 1..3);
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report::Latency;

    const PLAIN: Look = Look::PLAIN;

    fn report() -> Report {
        Report {
            calls: 60_003,
            failures: 3,
            statuses: BTreeMap::from([
                ("DEADLINE_EXCEEDED", 1),
                ("OK", 60_000),
                ("UNAVAILABLE", 2),
            ]),
            rps: 5_999.7,
            latency_us: Latency {
                p50: 143,
                p99: 1_210,
                p999: 24_100,
                max: 1_000_447,
            },
            instances: BTreeMap::from([
                ("127.0.0.1:40001".into(), 40_000),
                ("127.0.0.1:40002".into(), 20_000),
            ]),
            first_failures: BTreeMap::from([
                ("DEADLINE_EXCEEDED", "no answer within 1s".into()),
                ("UNAVAILABLE", "connection refused".into()),
            ]),
        }
    }

    #[test]
    fn the_table_reads_well() {
        let golden = "\
┌─────────────────────────────────────────────────────────────────────────────────────────────────┐
│  calls                                 failures   calls/s      p50       p99     p99.9      max │
╞═════════════════════════════════════════════════════════════════════════════════════════════════╡
│ 60,003   3 (DEADLINE_EXCEEDED 1, UNAVAILABLE 2)     6,000   143 µs   1.21 ms   24.1 ms   1.00 s │
└─────────────────────────────────────────────────────────────────────────────────────────────────┘
┌────────────────────────────────────────────────────────────────────┐
│ instance           calls    share                                  │
╞════════════════════════════════════════════════════════════════════╡
│ 127.0.0.1:40001   40,000   66.7 %   ██████████████████████████████ │
│ 127.0.0.1:40002   20,000   33.3 %   ███████████████                │
└────────────────────────────────────────────────────────────────────┘
first DEADLINE_EXCEEDED: no answer within 1s
first UNAVAILABLE: connection refused
60,003 calls were made and 3 failed.
";
        assert_eq!(draw(&report(), PLAIN), golden);
    }

    #[test]
    fn without_color_nothing_but_text_is_drawn_and_with_it_failures_stand_out() {
        assert!(!draw(&report(), PLAIN).contains('\u{1b}'));
        let color = Look {
            color: true,
            ..PLAIN
        };
        assert!(draw(&report(), color).contains('\u{1b}'));
    }

    #[test]
    fn a_narrow_terminal_is_kept_to() {
        let narrow = Look {
            width: Some(60),
            ..PLAIN
        };
        let drawn = draw(&report(), narrow);
        for line in drawn.lines() {
            assert!(line.chars().count() <= 60, "{drawn}");
        }
    }

    #[test]
    fn a_run_without_calls_has_no_bars() {
        let drawn = draw(&crate::report::Tally::default().report(), PLAIN);
        assert!(
            drawn.contains("0 µs") && !drawn.contains("instance"),
            "{drawn}"
        );
    }
}
