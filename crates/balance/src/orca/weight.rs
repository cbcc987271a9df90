//! From load reports to an endpoint's weight: gRFC A58's formula, blackout and expiration.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::LoadReport;

/// Far beyond what a server can do, and so that sums and shares of them are still numbers.
const WEIGHTS: RangeInclusive<f64> = 1e-6..=1e12;

/// What a report makes an endpoint weigh, as calls a second for each unit of utilization:
/// qps / (utilization + eps / qps × `error_penalty`). The utilization is the application's own where it reports one.
///
/// `None` when the report does not say enough, or numbers that make no sense. A weight is within [`WEIGHTS`].
pub(crate) fn weight(report: &LoadReport, error_penalty: f64) -> Option<f64> {
    let is_sensible = |value: &f64| value.is_finite() && *value > 0.0;
    let qps = Some(report.rps_fractional).filter(is_sensible)?;
    let utilization = Some(report.application_utilization)
        .filter(is_sensible)
        .or(Some(report.cpu_utilization).filter(is_sensible))?;
    let eps = Some(report.eps).filter(is_sensible).unwrap_or(0.0);
    let weight = qps / (utilization + eps / qps * error_penalty);
    let weight = Some(weight).filter(is_sensible)?;
    Some(weight.clamp(*WEIGHTS.start(), *WEIGHTS.end()))
}

/// An endpoint's weight by its reports, for as long as they are of use. Without a lock: any number of calls may update it
/// while a policy reads. Who reads in the middle of an update may see the weight before it or after it.
#[derive(Debug)]
pub(crate) struct ReportedWeight {
    /// Moments are nanoseconds since this one.
    origin: Instant,
    /// The bits of a number.
    weight: AtomicU64,
    /// When the last report with a weight came.
    updated: AtomicU64,
    /// When the first such report came of those that the blackout counts from.
    reporting_since: AtomicU64,
}

/// Why an endpoint's reports make no weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoWeight {
    /// None has come, or they have come for less than the blackout.
    NotYet,
    /// The last one has expired.
    Stale,
}

/// A moment that has not come.
const NEVER: u64 = u64::MAX;

impl ReportedWeight {
    /// Without a report. `now` is the earliest moment that it is ever told.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            weight: AtomicU64::new(0),
            updated: AtomicU64::new(NEVER),
            reporting_since: AtomicU64::new(NEVER),
        }
    }

    /// Takes a report that came `now`. One that makes no weight changes nothing (A58).
    pub(crate) fn update(&self, report: &LoadReport, error_penalty: f64, now: Instant) {
        let Some(weight) = weight(report, error_penalty) else {
            return;
        };
        let now = self.moment(now);
        self.weight.store(weight.to_bits(), Ordering::Relaxed);
        // As a rule it is set. A read is shared by all who report.
        if self.reporting_since.load(Ordering::Relaxed) == NEVER {
            let _ = self.reporting_since.compare_exchange(
                NEVER,
                now,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        // Last, so that who sees it sees the others, too.
        self.updated.store(now, Ordering::Release);
    }

    /// The endpoint has a new connection: the blackout begins anew, with the next report (A58).
    pub(crate) fn reconnected(&self) {
        self.reporting_since.store(NEVER, Ordering::Relaxed);
    }

    /// The weight, unless the last report is older than `expiration`, or there have been reports for less than
    /// `blackout`. After an expiration the blackout begins anew.
    pub(crate) fn get(
        &self,
        now: Instant,
        blackout: Duration,
        expiration: Duration,
    ) -> Result<f64, NoWeight> {
        let updated = self.updated.load(Ordering::Acquire);
        if updated == NEVER {
            return Err(NoWeight::NotYet);
        }
        let now = self.moment(now);
        let since = |moment: u64| Duration::from_nanos(now.saturating_sub(moment));
        if since(updated) >= expiration {
            self.reporting_since.store(NEVER, Ordering::Relaxed);
            return Err(NoWeight::Stale);
        }
        let reporting_since = self.reporting_since.load(Ordering::Relaxed);
        if !blackout.is_zero() && (reporting_since == NEVER || since(reporting_since) < blackout) {
            return Err(NoWeight::NotYet);
        }
        Ok(f64::from_bits(self.weight.load(Ordering::Relaxed)))
    }

    /// 580 years fit.
    fn moment(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(nanos).unwrap_or(NEVER).min(NEVER - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Duration, Instant, LoadReport, NoWeight, ReportedWeight, WEIGHTS, weight};

    const BLACKOUT: Duration = Duration::from_secs(10);
    const EXPIRATION: Duration = Duration::from_mins(3);

    fn report(qps: f64, cpu: f64) -> LoadReport {
        LoadReport {
            rps_fractional: qps,
            cpu_utilization: cpu,
            ..LoadReport::default()
        }
    }

    fn assert_weighs(report: &LoadReport, penalty: f64, expected: f64) {
        let weight = weight(report, penalty).expect("it says enough");
        assert!((weight - expected).abs() < 1e-9, "{weight}: {report:?}");
    }

    #[test]
    fn a_weight_is_calls_a_second_over_utilization_and_errors() {
        assert_weighs(&report(100.0, 0.5), 1.0, 200.0);
        let erring = LoadReport {
            eps: 20.0,
            ..report(100.0, 0.5)
        };
        // 0.5 + 20 / 100 × 1.5 = 0.8
        assert_weighs(&erring, 1.5, 125.0);
        assert_weighs(&erring, 0.0, 200.0);
        let application = LoadReport {
            application_utilization: 0.25,
            ..report(100.0, 0.5)
        };
        assert_weighs(&application, 1.0, 400.0);
    }

    #[test]
    fn a_report_without_calls_or_utilization_makes_no_weight() {
        let senseless = [0.0, -1.0, f64::NAN, f64::INFINITY];
        for number in senseless {
            assert_eq!(weight(&report(number, 0.5), 1.0), None, "{number} qps");
            assert_eq!(weight(&report(100.0, number), 1.0), None, "{number} cpu");
        }
        for eps in [-5.0, f64::NAN, f64::INFINITY] {
            let odd = LoadReport {
                eps,
                ..report(100.0, 0.5)
            };
            assert_weighs(&odd, 1.0, 200.0);
        }
    }

    fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_weight_is_of_use_after_the_blackout_and_until_it_expires() {
        let began = Instant::now();
        let cell = ReportedWeight::new(began);
        let get = |seconds| cell.get(began + after(seconds), BLACKOUT, EXPIRATION);
        let update = |seconds, qps| cell.update(&report(qps, 1.0), 1.0, began + after(seconds));
        assert_eq!(get(0), Err(NoWeight::NotYet), "nothing is reported");
        update(5, 10.0);
        assert_eq!(get(14), Err(NoWeight::NotYet), "9 s of reports");
        update(14, 20.0);
        assert_eq!(get(15), Ok(20.0), "10 s of reports");
        update(16, 0.0);
        assert_eq!(get(16), Ok(20.0), "an empty report is none");
        assert_eq!(get(193), Ok(20.0), "179 s old");
        assert_eq!(get(194), Err(NoWeight::Stale), "180 s old");
        update(200, 30.0);
        assert_eq!(get(209), Err(NoWeight::NotYet), "the blackout begins anew");
        assert_eq!(get(210), Ok(30.0));
    }

    #[test]
    fn a_new_connection_begins_the_blackout_anew() {
        let began = Instant::now();
        let cell = ReportedWeight::new(began);
        let get = |seconds| cell.get(began + after(seconds), BLACKOUT, EXPIRATION);
        cell.update(&report(10.0, 1.0), 1.0, began);
        assert_eq!(get(10), Ok(10.0));
        cell.reconnected();
        assert_eq!(get(10), Err(NoWeight::NotYet));
        cell.update(&report(20.0, 1.0), 1.0, began + after(12));
        assert_eq!(get(21), Err(NoWeight::NotYet));
        assert_eq!(get(22), Ok(20.0));
    }

    #[test]
    fn without_a_blackout_the_first_report_counts_at_once() {
        let began = Instant::now();
        let cell = ReportedWeight::new(began);
        cell.update(&report(10.0, 1.0), 1.0, began);
        cell.reconnected();
        assert_eq!(cell.get(began, Duration::ZERO, EXPIRATION), Ok(10.0));
    }

    proptest! {
        #[test]
        fn a_weight_is_one_to_count_with_whatever_is_reported(
            rps_fractional: f64,
            eps: f64,
            cpu_utilization: f64,
            application_utilization: f64,
            penalty in 0.0..1e300,
        ) {
            let report = LoadReport {
                cpu_utilization,
                rps_fractional,
                eps,
                application_utilization,
                ..LoadReport::default()
            };
            if let Some(weight) = weight(&report, penalty) {
                prop_assert!(WEIGHTS.contains(&weight), "{weight}");
            }
        }
    }
}
