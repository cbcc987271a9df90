//! What endpoints weigh when some of their servers report loads and others do not.

/// Whether so many reports say something: fewer than two have nothing to be compared with (gRFC A58).
pub(super) fn suffice(reports: usize) -> bool {
    reports >= 2
}

/// The weights to go by: what is reported, and else what the registry says.
///
/// The two have different units. Who reports nothing is weighed as those who report would weigh on the mean, in proportion
/// to what the registry says; where it says the same of all, that is the mean itself, as gRFC A58 has it. Reports that do not
/// [suffice](suffice) do not count.
pub(super) fn blend(registered: Vec<f64>, reported: &[Option<f64>]) -> Vec<f64> {
    let known = || {
        registered
            .iter()
            .zip(reported)
            .filter_map(|(weight, report)| Some((weight, (*report)?)))
    };
    if !suffice(known().count()) {
        return registered;
    }
    let (weights, reports) = known().fold((0.0, 0.0), |(a, b), (weight, report)| {
        (a + weight, b + report)
    });
    let unit = reports / weights;
    registered
        .iter()
        .zip(reported)
        .map(|(weight, report)| report.unwrap_or(weight * unit))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::blend;

    #[test]
    fn the_registry_counts_until_two_report() {
        assert_eq!(blend(vec![1.0, 3.0], &[None, None]), [1.0, 3.0]);
        assert_eq!(blend(vec![1.0, 3.0], &[Some(500.0), None]), [1.0, 3.0]);
        assert_eq!(
            blend(vec![1.0, 3.0], &[Some(500.0), Some(100.0)]),
            [500.0, 100.0]
        );
    }

    #[test]
    fn who_does_not_report_weighs_the_mean_in_proportion_to_the_registry() {
        assert_eq!(
            blend(vec![1.0; 3], &[Some(500.0), Some(100.0), None]),
            [500.0, 100.0, 300.0]
        );
        assert_eq!(
            blend(vec![1.0, 1.0, 2.0], &[Some(500.0), Some(100.0), None]),
            [500.0, 100.0, 600.0]
        );
    }
}
