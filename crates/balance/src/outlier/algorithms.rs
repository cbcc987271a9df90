//! Who is an outlier by what was counted in one interval: gRFC A50's two algorithms, as functions.

use super::{FailurePercentage, SuccessRate, Why};

/// What was counted for one endpoint since the last sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) serial: u64,
    pub(crate) successes: u64,
    pub(crate) failures: u64,
}

impl Counts {
    fn total(&self) -> u64 {
        self.successes.saturating_add(self.failures)
    }

    /// The share of calls that succeeded, 0.0 to 1.0.
    fn success_rate(&self) -> f64 {
        self.successes as f64 / self.total() as f64
    }
}

/// Far less than one call in any count, and far more than what sums of fractions are off by: endpoints that do equally
/// well are not told apart by rounding.
const ROUNDING: f64 = 1e-9;

/// Those whose success rate is below the mean by more than the set number of standard deviations, the worst first.
///
/// The standard deviation is that of all who are compared and not of a sample. With few endpoints none can be far off by
/// it: the one bad one of `n` is √(n − 1) deviations below the mean.
pub(super) fn success_rate_outliers(settings: &SuccessRate, counts: &[Counts]) -> Vec<(u64, Why)> {
    let Some(compared) = with_volume(counts, settings.request_volume, settings.minimum_hosts)
    else {
        return Vec::new();
    };
    let hosts = compared.len() as f64;
    let mean = compared.iter().map(Counts::success_rate).sum::<f64>() / hosts;
    let squares = compared.iter().map(|c| (c.success_rate() - mean).powi(2));
    let stdev = (squares.sum::<f64>() / hosts).sqrt();
    let threshold = mean - stdev * f64::from(settings.stdev_factor) / 1_000.0;
    compared
        .iter()
        .take_while(|c| c.success_rate() < threshold - ROUNDING)
        .map(|c| {
            let why = Why::SuccessRate {
                percent: c.success_rate() * 100.0,
                threshold: threshold * 100.0,
            };
            (c.serial, why)
        })
        .collect()
}

/// Those that fail more than the set share of their calls, the worst first.
pub(super) fn failure_percentage_outliers(
    settings: &FailurePercentage,
    counts: &[Counts],
) -> Vec<(u64, Why)> {
    let Some(compared) = with_volume(counts, settings.request_volume, settings.minimum_hosts)
    else {
        return Vec::new();
    };
    let percent = |c: &Counts| c.failures as f64 * 100.0 / c.total() as f64;
    compared
        .iter()
        // A50's comment says "or equal", its algorithm and other implementations "greater".
        .take_while(|c| percent(c) > f64::from(settings.threshold))
        .map(|c| {
            let why = Why::FailurePercentage {
                percent: percent(c),
            };
            (c.serial, why)
        })
        .collect()
}

/// Those with enough calls to be looked at, the worst first; `None` when they are too few to be compared.
///
/// A50 leaves the order open. When not all outliers may be ejected, it should be the worst that are.
fn with_volume(counts: &[Counts], volume: u32, minimum_hosts: u32) -> Option<Vec<Counts>> {
    // Who had no call has no rate, even where no volume is asked for.
    let volume = u64::from(volume.max(1));
    let mut compared: Vec<_> = counts
        .iter()
        .filter(|c| c.total() >= volume)
        .copied()
        .collect();
    if compared.is_empty() || compared.len() < usize::try_from(minimum_hosts).unwrap_or(usize::MAX)
    {
        return None;
    }
    compared.sort_by(|a, b| {
        a.success_rate()
            .total_cmp(&b.success_rate())
            .then(a.serial.cmp(&b.serial))
    });
    Some(compared)
}

#[cfg(test)]
mod tests {
    use super::{failure_percentage_outliers, success_rate_outliers};
    use crate::outlier::{Counts, FailurePercentage, SuccessRate, Why};

    const NOBODY: [u64; 0] = [];

    /// Endpoints numbered from 0 with these successes of 100 calls each.
    fn of_a_hundred(successes: &[u64]) -> Vec<Counts> {
        let counts = successes.iter().zip(0..);
        counts
            .map(|(&successes, serial)| Counts {
                serial,
                successes,
                failures: 100 - successes,
            })
            .collect()
    }

    fn serials(outliers: &[(u64, Why)]) -> Vec<u64> {
        outliers.iter().map(|(serial, _)| *serial).collect()
    }

    #[test]
    fn a_rate_below_the_mean_by_more_than_the_factor_of_deviations_is_an_outliers() {
        // Mean 0.80, deviation 0.40: the threshold is 0.80 − 1.9 × 0.40 = 0.04.
        let settings = SuccessRate::default();
        let outliers = success_rate_outliers(&settings, &of_a_hundred(&[100, 100, 0, 100, 100]));
        let [(2, Why::SuccessRate { percent, threshold })] = outliers[..] else {
            panic!("{outliers:?}");
        };
        assert!(percent.abs() < 1e-9 && (threshold - 4.0).abs() < 1e-9);
        // Mean 0.79, deviation 0.097: the threshold is 0.606, just above the 0.60 of the last.
        let uneven = of_a_hundred(&[80, 85, 85, 85, 60]);
        assert_eq!(serials(&success_rate_outliers(&settings, &uneven)), [4]);
        // Mean 0.78, deviation 0.098: the threshold is 0.594, just below the 0.60 of the last.
        let evener = of_a_hundred(&[75, 85, 85, 85, 60]);
        assert_eq!(serials(&success_rate_outliers(&settings, &evener)), NOBODY);
    }

    #[test]
    fn a_smaller_factor_is_stricter_and_the_worst_come_first() {
        let settings = SuccessRate {
            stdev_factor: 500,
            ..SuccessRate::default()
        };
        // Mean 0.68, deviation 0.26: the threshold is 0.55.
        let counts = of_a_hundred(&[90, 40, 100, 30, 80]);
        assert_eq!(serials(&success_rate_outliers(&settings, &counts)), [3, 1]);
    }

    #[test]
    fn endpoints_that_do_equally_well_are_not_told_apart_by_rounding() {
        let settings = SuccessRate {
            stdev_factor: 0,
            ..SuccessRate::default()
        };
        for successes in 0..=100 {
            let counts = of_a_hundred(&[successes; 7]);
            assert_eq!(serials(&success_rate_outliers(&settings, &counts)), NOBODY);
        }
    }

    #[test]
    fn too_few_endpoints_or_calls_are_not_judged() {
        let few = of_a_hundred(&[100, 100, 0, 100]);
        assert_eq!(
            serials(&success_rate_outliers(&SuccessRate::default(), &few)),
            NOBODY
        );
        assert_eq!(
            serials(&failure_percentage_outliers(
                &FailurePercentage::default(),
                &few
            )),
            NOBODY
        );
        let mut idle = of_a_hundred(&[100, 100, 0, 100, 100]);
        idle[2].failures = 49;
        assert_eq!(
            serials(&success_rate_outliers(&SuccessRate::default(), &idle)),
            NOBODY
        );
        assert_eq!(
            serials(&failure_percentage_outliers(
                &FailurePercentage::default(),
                &idle
            )),
            NOBODY
        );
    }

    #[test]
    fn more_failures_than_the_threshold_are_an_outliers_and_just_as_many_are_not() {
        let counts = of_a_hundred(&[14, 15, 16, 100, 0]);
        let outliers = failure_percentage_outliers(&FailurePercentage::default(), &counts);
        assert_eq!(serials(&outliers), [4, 0]);
        let Why::FailurePercentage { percent } = outliers[1].1 else {
            panic!("{outliers:?}");
        };
        assert!((percent - 86.0).abs() < 1e-9);
    }

    #[test]
    fn who_had_no_call_is_no_outlier_even_where_no_volume_is_asked_for() {
        let settings = FailurePercentage {
            request_volume: 0,
            minimum_hosts: 0,
            threshold: 0,
            ..FailurePercentage::default()
        };
        let unused = Counts {
            serial: 1,
            successes: 0,
            failures: 0,
        };
        assert_eq!(
            serials(&failure_percentage_outliers(&settings, &[unused])),
            NOBODY
        );
        assert_eq!(
            serials(&failure_percentage_outliers(&settings, &[])),
            NOBODY
        );
    }
}
