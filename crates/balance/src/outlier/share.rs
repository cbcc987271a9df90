//! How many endpoints may be ejected at a time.

/// How many of `endpoints` may be ejected when `percent` of them may: rounded down, so that the share is never exceeded.
///
/// gRFC A50 ejects at least one whatever the share says. Here that holds unless the share is 0, which ejects none, or the
/// one would be the only one there is: there is nobody else to take its calls.
pub(super) fn most_ejected(endpoints: usize, percent: u32) -> usize {
    let percent = percent.min(100);
    // In 128 bits no count overflows, and a share of a count is a count again.
    let share = endpoints as u128 * u128::from(percent) / 100;
    let at_least = usize::from(percent > 0 && endpoints > 1);
    usize::try_from(share).unwrap_or(endpoints).max(at_least)
}

#[cfg(test)]
mod tests {
    use super::most_ejected;

    #[test]
    fn a_share_is_rounded_down_but_not_to_nobody() {
        for (endpoints, percent, most) in [
            (100, 10, 10),
            (19, 10, 1),
            (20, 10, 2),
            (5, 10, 1),
            (2, 1, 1),
            (3, 100, 3),
            (3, 4_000, 3),
            (usize::MAX, 100, usize::MAX),
        ] {
            assert_eq!(
                most_ejected(endpoints, percent),
                most,
                "{percent} % of {endpoints}"
            );
        }
    }

    #[test]
    fn a_share_of_zero_ejects_nobody_and_a_small_one_never_the_only_endpoint() {
        assert_eq!(most_ejected(100, 0), 0);
        assert_eq!(most_ejected(1, 10), 0);
        assert_eq!(most_ejected(0, 10), 0);
        assert_eq!(most_ejected(1, 100), 1, "all means all");
    }
}
