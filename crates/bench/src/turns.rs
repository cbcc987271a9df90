//! Peers take turns, so that a machine that gets slower slows all of them.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// How far a question has come; seen only on a terminal.
pub(crate) fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30.cyan/dim} {pos}/{len}  {msg}");
    ProgressBar::new(steps as u64).with_style(style.expect("the template is well-formed"))
}

/// Measures each peer once a round, and gives what was measured of each.
pub(crate) fn take<P: Copy, F>(
    peers: &[P],
    rounds: u32,
    name: impl Fn(P) -> &'static str,
    mut measure: impl FnMut(P) -> Result<F>,
) -> Result<Vec<(P, Vec<F>)>> {
    let bar = progress(peers.len() * rounds as usize);
    let mut measured: Vec<(P, Vec<F>)> = peers.iter().map(|peer| (*peer, Vec::new())).collect();
    for _ in 0..rounds {
        for (peer, figures) in &mut measured {
            bar.set_message(name(*peer));
            figures.push(measure(*peer)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(measured)
}

/// The middle one; of an even number, the upper of the two.
pub(crate) fn median<F>(figures: &[F], of: impl Fn(&F) -> f64) -> f64 {
    let mut sorted: Vec<f64> = figures.iter().map(of).collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::{median, take};

    #[test]
    fn peers_take_turns() {
        let mut order = String::new();
        let measured = take(
            &['a', 'b'],
            2,
            |_| "",
            |peer| {
                order.push(peer);
                Ok(order.len())
            },
        );
        let measured = measured.expect("nothing fails");
        assert_eq!(order, "abab");
        assert_eq!(measured, [('a', vec![1, 3]), ('b', vec![2, 4])]);
    }

    #[test]
    fn the_median_is_not_moved_by_one_that_is_far_off() {
        assert!((median(&[3.0, 1.0, 1_000.0], |figure| *figure) - 3.0).abs() < f64::EPSILON);
    }
}
