//! A latency that jumps up at once to a peak and comes down slowly: an exponentially weighted moving average that any
//! number of threads write and read without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The average, in one atomic cell: the value in nanoseconds as an `f32` in the upper half, and when it was in the lower,
/// in ticks of 2^16 ns (65.5 µs) since any fixed moment. The upper half is 0 before the first sample.
///
/// It decays with time, not with samples: what is not called any more comes down, and is tried again. Ticks go round
/// after 78 hours; a time that seems to lie ahead counts as now.
#[derive(Debug)]
pub(crate) struct PeakEwma {
    cell: AtomicU64,
    /// The time, in ticks, in which all but 1/e of a sample is forgotten.
    decay: f32,
}

const TICK_BITS: u32 = 16;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Average {
    nanos: f32,
    tick: u32,
}

impl PeakEwma {
    /// An average without samples, which forgets all but 1/e of a sample in `decay`.
    pub(crate) fn new(decay: Duration) -> Self {
        let ticks = decay.as_nanos() as f32 / (1_u64 << TICK_BITS) as f32;
        Self {
            cell: AtomicU64::new(0),
            decay: ticks.max(1.0),
        }
    }

    /// Takes in a call that took `latency` and ended at `now`: nanoseconds, which count from any moment that stays the same.
    pub(crate) fn record(&self, now: u64, latency: u64) {
        // The least that a sample can be, so that it differs from none.
        let sample = (latency as f32).max(1.0);
        let tick = tick(now);
        let taken_in = |cell| match Average::unpack(cell) {
            Some(average) => average.with(sample, tick, self.decay).map(Average::pack),
            None => Some(
                Average {
                    nanos: sample,
                    tick,
                }
                .pack(),
            ),
        };
        // Refused when it changes nothing; a failed exchange has been tried again with what was there.
        let _ = self
            .cell
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken_in);
    }

    /// The average at `now`, decayed since the last sample; `None` before the first.
    pub(crate) fn at(&self, now: u64) -> Option<Duration> {
        let average = Average::unpack(self.cell.load(Ordering::Relaxed))?;
        let nanos = average.nanos * average.kept(tick(now), self.decay);
        Some(Duration::from_nanos(whole(nanos)))
    }
}

impl Average {
    /// `None` when it stays as it is: within one tick only a peak counts, as weights are zero there.
    fn with(self, sample: f32, tick: u32, decay: f32) -> Option<Self> {
        if sample >= self.nanos {
            return Some(Self {
                nanos: sample,
                tick,
            });
        }
        let kept = self.kept(tick, decay);
        (kept < 1.0).then(|| Self {
            nanos: (self.nanos * kept + sample * (1.0 - kept)).max(1.0),
            tick,
        })
    }

    /// How much of the average is left at `tick`.
    fn kept(self, tick: u32, decay: f32) -> f32 {
        let elapsed = tick.wrapping_sub(self.tick);
        let elapsed = if elapsed > u32::MAX / 2 { 0 } else { elapsed };
        let passed = elapsed as f32 / decay;
        if passed < 1e-3 {
            // What it is to the last digit but one that an f32 has, and many times cheaper.
            1.0 - passed
        } else {
            (-passed).exp()
        }
    }

    fn pack(self) -> u64 {
        (u64::from(self.nanos.to_bits()) << 32) | u64::from(self.tick)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the halves of a cell")]
    fn unpack(cell: u64) -> Option<Self> {
        let bits = (cell >> 32) as u32;
        (bits != 0).then(|| Self {
            nanos: f32::from_bits(bits),
            tick: cell as u32,
        })
    }
}

/// An average far below a nanosecond is as good as none at all, but it is one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float's cast saturates"
)]
fn whole(nanos: f32) -> u64 {
    (nanos as u64).max(1)
}

#[expect(clippy::cast_possible_truncation, reason = "ticks go round")]
fn tick(now: u64) -> u32 {
    (now >> TICK_BITS) as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::PeakEwma;

    const DECAY: Duration = Duration::from_secs(10);
    const MILLI: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MILLI;

    fn millis(ewma: &PeakEwma, now: u64) -> f64 {
        ewma.at(now).expect("a sample").as_secs_f64() * 1e3
    }

    #[test]
    fn it_jumps_up_to_a_peak_and_comes_down_by_its_decay() {
        let ewma = PeakEwma::new(DECAY);
        assert_eq!(ewma.at(0), None);
        ewma.record(SECOND, 10 * MILLI);
        ewma.record(SECOND, 500 * MILLI);
        assert!((millis(&ewma, SECOND) - 500.0).abs() < 0.1);
        let later = millis(&ewma, 11 * SECOND);
        assert!((later - 500.0 / std::f64::consts::E).abs() < 0.1, "{later}");
    }

    #[test]
    fn many_short_calls_bring_it_down_to_theirs() {
        let ewma = PeakEwma::new(DECAY);
        ewma.record(0, SECOND);
        let mut now = 0;
        while now < 50 * SECOND {
            now += MILLI;
            ewma.record(now, 20 * MILLI);
        }
        // Of the peak, e^-5 is left: 6.6 ms above the 20 ms that all calls take now.
        let found = millis(&ewma, now);
        assert!((found - 26.6).abs() < 0.3, "{found} ms");
    }

    #[test]
    fn a_clock_that_went_round_neither_panics_nor_forgets_the_samples_after_it() {
        let ewma = PeakEwma::new(DECAY);
        let tick = 1 << 16;
        let (before, after) = ((1 << 48) - tick, (1 << 48) + tick);
        ewma.record(before, 3 * MILLI);
        ewma.record(after, 7 * MILLI);
        assert!((millis(&ewma, after) - 7.0).abs() < 0.01);
    }

    proptest! {
        #[test]
        fn it_stays_between_nothing_and_the_largest_sample(
            samples in proptest::collection::vec((0_u64..1_000_000_000, 0_u64..10_000_000_000), 1..100),
        ) {
            let ewma = PeakEwma::new(DECAY);
            let mut now = 0;
            let mut largest = 1.0_f64;
            for (pause, latency) in samples {
                now += pause;
                largest = largest.max(latency as f64);
                ewma.record(now, latency);
                let found = ewma.at(now).expect("a sample").as_nanos() as f64;
                prop_assert!(found >= latency as f64 * 0.999_999 - 1.0, "{found} below the sample {latency}");
                prop_assert!(found <= largest * 1.000_001, "{found} above all samples");
            }
        }
    }
}
