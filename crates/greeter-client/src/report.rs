//! What came of the calls: counted by each caller for itself, merged at the end, and turned into figures.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::counts::{Counts, Outcome, code_name};

const GROWS: &str = "a histogram that grows takes any value";

/// One caller's record of its calls.
#[derive(Debug)]
pub(crate) struct Tally {
    counts: Counts,
    latency_us: Histogram<u64>,
    first_failures: BTreeMap<&'static str, String>,
    span: Option<(Instant, Instant)>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            // It grows as far as it must: a thousand callers would need 200 MB for a range of an hour.
            latency_us: Histogram::new(3).expect("three significant digits are within 0 to 5"),
            first_failures: BTreeMap::new(),
            span: None,
        }
    }
}

impl Tally {
    pub(crate) fn record(&mut self, started: Instant, ended: Instant, outcome: &Outcome) {
        self.counts.record(outcome);
        let micros = u64::try_from((ended - started).as_micros()).unwrap_or(u64::MAX);
        self.latency_us.record(micros).expect(GROWS);
        if let Outcome::Failed(status) = outcome {
            self.first_failures
                .entry(code_name(status.code()))
                .or_insert_with(|| status.message().to_owned());
        }
        let first = self.span.map_or(started, |(first, _)| first);
        self.span = Some((first, ended));
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.counts.merge(&other.counts);
        self.latency_us.add(&other.latency_us).expect(GROWS);
        for (code, message) in other.first_failures {
            self.first_failures.entry(code).or_insert(message);
        }
        self.span = match (self.span, other.span) {
            (Some(mine), Some(theirs)) => Some((mine.0.min(theirs.0), mine.1.max(theirs.1))),
            (mine, theirs) => mine.or(theirs),
        };
    }

    pub(crate) fn report(&self) -> Report {
        let calls = self.counts.calls();
        let elapsed = self
            .span
            .map_or(Duration::ZERO, |(first, last)| last - first);
        Report {
            calls,
            failures: self.counts.failures(),
            statuses: self.counts.statuses(),
            rps: rate(calls, elapsed),
            latency_us: Latency::of(&self.latency_us),
            instances: self
                .counts
                .instances()
                .into_iter()
                .map(|(address, calls)| (address.to_owned(), calls))
                .collect(),
            first_failures: self.first_failures.clone(),
        }
    }
}

/// Calls in a second; 0 when no time went by.
pub(crate) fn rate(calls: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        return 0.0;
    }
    calls as f64 / elapsed.as_secs_f64()
}

/// The figures of a whole run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    /// Calls by the name of the status they ended with, `OK` among them.
    pub(crate) statuses: BTreeMap<&'static str, u64>,
    /// Calls in a second, from the start of the first to the end of the last.
    pub(crate) rps: f64,
    pub(crate) latency_us: Latency,
    /// Calls by the address of the instance that answered.
    pub(crate) instances: BTreeMap<String, u64>,
    /// What the first call that failed with each status said.
    pub(crate) first_failures: BTreeMap<&'static str, String>,
}

/// Latency of all calls, those that failed among them, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use registry::Address;
    use tonic::Status;

    use super::*;

    fn answered(by: &str) -> Outcome {
        Outcome::Answered {
            greeting: "Hello".into(),
            by: Some(Address::new(by).expect("an address")),
        }
    }

    fn tally(start: Instant, calls: &[(u64, Outcome)]) -> Tally {
        let mut tally = Tally::default();
        for (micros, outcome) in calls {
            tally.record(start, start + Duration::from_micros(*micros), outcome);
        }
        tally
    }

    #[tokio::test(start_paused = true)]
    async fn the_figures_of_two_callers_add_up() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut all = tally(start, &[(100, answered("a:1")), (200, answered("b:1"))]);
        let refused = || Outcome::Failed(Status::unavailable("nobody there"));
        all.merge(tally(
            later,
            &[(1_000_000, answered("a:1")), (5, refused())],
        ));

        let report = all.report();
        assert_eq!((report.calls, report.failures), (4, 1));
        assert_eq!(
            report.statuses,
            BTreeMap::from([("OK", 3), ("UNAVAILABLE", 1)])
        );
        assert_eq!(
            report.instances,
            BTreeMap::from([("a:1".to_owned(), 2), ("b:1".to_owned(), 1)])
        );
        assert_eq!(report.first_failures["UNAVAILABLE"], "nobody there");
        // The second caller's last recorded end is its short call's, a second after the first caller began.
        assert!((report.rps - 4.0).abs() < 0.01, "{}", report.rps);
    }

    #[tokio::test(start_paused = true)]
    async fn quantiles_are_exact_to_three_digits() {
        let start = Instant::now();
        let calls: Vec<_> = (1..=10_000).map(|us| (us, answered("a:1"))).collect();
        let latency = tally(start, &calls).report().latency_us;
        for (found, exact) in [
            (latency.p50, 5_000.0),
            (latency.p99, 9_900.0),
            (latency.p999, 9_990.0),
            (latency.max, 10_000.0),
        ] {
            let error = (found as f64 - exact).abs() / exact;
            assert!(error <= 0.001, "{found} for {exact}");
        }
    }

    #[test]
    fn a_run_without_calls_has_figures_too() {
        let report = Tally::default().report();
        assert_eq!((report.calls, report.failures), (0, 0));
        assert!(report.rps.abs() < f64::EPSILON);
        assert_eq!(report.latency_us.max, 0);
    }

    #[test]
    fn one_call_that_takes_an_hour_is_recorded_as_such() {
        let start = Instant::now();
        let hour = 3_600_000_000;
        let max = tally(start, &[(hour, answered("a:1"))])
            .report()
            .latency_us
            .max;
        assert!(max.abs_diff(hour) <= hour / 1_000, "{max}");
    }
}
