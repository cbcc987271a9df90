//! The detector by worked numbers, and what holds whatever comes.

use std::{num::NonZeroU32, time::Duration};

use fastrand::Rng;
use proptest::{
    collection::{btree_set, vec},
    prelude::*,
};
use tokio::time::Instant;

use super::most_ejected;
use crate::outlier::{
    Configured, ConsecutiveFailures, Counts, Detector, FailurePercentage, Outlier, Settings,
    Spared, SuccessRate, Sweep, Why,
};

const NOBODY: [u64; 0] = [];

fn by_percentage() -> Settings {
    Settings {
        failure_percentage: Some(FailurePercentage::default()),
        ..Settings::default()
    }
}

fn row_of(row: u32) -> Option<ConsecutiveFailures> {
    let threshold = NonZeroU32::new(row)?;
    Some(ConsecutiveFailures {
        threshold,
        ..ConsecutiveFailures::default()
    })
}

fn by_row(row: u32) -> Settings {
    Settings {
        consecutive_failures: row_of(row),
        ..Settings::default()
    }
}

/// A detector of so many endpoints, numbered from 0, and the moment it began.
fn detector(endpoints: u64, settings: Settings) -> (Detector, Instant) {
    let began = Instant::now();
    let mut detector = Detector::default();
    assert_eq!(detector.endpoints(0..endpoints), NOBODY);
    assert!(detector.configure(settings, began).begins);
    (detector, began)
}

/// A hundred calls to each of so many endpoints, all failed at those in `bad`.
fn counted(endpoints: u64, bad: &[u64]) -> Vec<Counts> {
    let count = |serial| {
        let failures = if bad.contains(&serial) { 100 } else { 0 };
        Counts {
            serial,
            successes: 100 - failures,
            failures,
        }
    };
    (0..endpoints).map(count).collect()
}

/// So many failures in a row, where chance decides nothing.
fn consecutive(detector: &mut Detector, serial: u64, now: Instant) -> Option<Outlier> {
    detector.consecutive(serial, now, &mut Rng::with_seed(1))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ejected(outliers: &[Outlier]) -> Vec<u64> {
    let ejected = outliers.iter().filter(|o| o.spared.is_none());
    ejected.map(|o| o.serial).collect()
}

/// Sweeps at each interval until `serial` is returned, and says how long after `from` that was.
fn returned_after(
    detector: &mut Detector,
    serial: u64,
    from: Instant,
    counts: &[Counts],
) -> Duration {
    for _ in 0..1_000 {
        let now = detector.next_sweep().expect("detection is on");
        let sweep = detector.sweep(now, counts, &mut Rng::with_seed(1));
        if sweep.returned == [serial] {
            return now - from;
        }
        assert_eq!(sweep.returned, NOBODY);
    }
    panic!("{serial} is never returned");
}

#[test]
fn a_sweep_comes_an_interval_after_the_last() {
    let (mut detector, began) = detector(3, by_percentage());
    assert_eq!(detector.next_sweep(), Some(began + seconds(10)));
    detector.sweep(began + seconds(11), &[], &mut Rng::with_seed(1));
    assert_eq!(detector.next_sweep(), Some(began + seconds(21)));
}

#[test]
fn an_outlier_is_ejected_for_the_base_time_and_longer_each_time_again() {
    let (mut detector, began) = detector(5, by_percentage());
    let mut rng = Rng::with_seed(1);
    let mut now = began;
    // The base time is 30 s, and a sweep that comes just then is not after it.
    for lasted in [40, 70, 100] {
        now = detector.next_sweep().expect("detection is on");
        let sweep = detector.sweep(now, &counted(5, &[3]), &mut rng);
        assert_eq!(ejected(&sweep.outliers), [3]);
        assert_eq!(sweep.returned, NOBODY);
        let ejection = detector.ejection(3).expect("ejected");
        assert_eq!(
            ejection,
            (now, Why::FailurePercentage { percent: 100.0 }),
            "{}",
            ejection.1
        );
        assert_eq!(detector.ejected_for(3), Some(seconds(lasted - 10)));
        assert_eq!(
            returned_after(&mut detector, 3, now, &[]),
            seconds(lasted),
            "from {:?}",
            now - began
        );
        assert_eq!(detector.ejection(3), None);
    }
    // Two good intervals take two off the three: the next one is the second again.
    for _ in 0..2 {
        now = detector.next_sweep().expect("detection is on");
        detector.sweep(now, &counted(5, &[]), &mut rng);
    }
    now += seconds(10);
    detector.sweep(now, &counted(5, &[3]), &mut rng);
    assert_eq!(returned_after(&mut detector, 3, now, &[]), seconds(70));
}

#[test]
fn no_ejection_lasts_longer_than_the_longest_or_the_base_time() {
    let short = Settings {
        base_ejection_time: seconds(25),
        max_ejection_time: seconds(55),
        ..Settings::default()
    };
    let times = |settings: &Settings| [1, 2, 3, u32::MAX].map(|nth| settings.ejection_time(nth));
    assert_eq!(times(&short), [25, 50, 55, 55].map(seconds));
    let long = Settings {
        base_ejection_time: seconds(400),
        ..Settings::default()
    };
    assert_eq!(times(&long), [400; 4].map(seconds));
}

#[test]
fn an_ejected_endpoints_late_failures_do_not_eject_it_anew() {
    let (mut detector, began) = detector(5, by_percentage());
    let mut rng = Rng::with_seed(1);
    detector.sweep(began + seconds(10), &counted(5, &[3]), &mut rng);
    let sweep = detector.sweep(began + seconds(20), &counted(5, &[3]), &mut rng);
    assert_eq!(sweep, Sweep::default());
    assert_eq!(detector.ejected_for(3), Some(seconds(30)));
}

#[test]
fn the_worst_are_ejected_while_there_is_room_and_the_rest_is_told_apart() {
    let settings = Settings {
        max_ejection_percent: 20,
        ..by_percentage()
    };
    let (mut detector, began) = detector(10, settings);
    let mut counts = counted(10, &[1, 2, 3]);
    counts[1].successes = 5;
    let sweep = detector.sweep(began + seconds(10), &counts, &mut Rng::with_seed(1));
    assert_eq!(ejected(&sweep.outliers), [2, 3]);
    let [.., spared] = sweep.outliers[..] else {
        panic!("{sweep:?}");
    };
    assert_eq!((spared.serial, spared.spared), (1, Some(Spared::Share)));
    assert_eq!(Spared::Share.reason(), "max_ejection_overflow");
}

#[test]
fn an_endpoint_far_below_the_mean_is_ejected() {
    let settings = Settings {
        success_rate: Some(SuccessRate::default()),
        ..Settings::default()
    };
    let (mut detector, began) = detector(5, settings);
    let sweep = detector.sweep(
        began + seconds(10),
        &counted(5, &[0]),
        &mut Rng::with_seed(1),
    );
    assert_eq!(ejected(&sweep.outliers), [0]);
    assert_eq!(sweep.outliers[0].why.method(), "success_rate");
}

#[test]
fn both_algorithms_share_the_room() {
    let settings = Settings {
        success_rate: Some(SuccessRate::default()),
        max_ejection_percent: 100,
        ..by_percentage()
    };
    let (mut detector, began) = detector(5, settings);
    let mut counts = counted(5, &[0]);
    // Not far enough from the mean to be an outlier by that, and 90 % failures.
    (counts[1].successes, counts[1].failures) = (10, 90);
    let sweep = detector.sweep(began + seconds(10), &counts, &mut Rng::with_seed(1));
    assert_eq!(ejected(&sweep.outliers), [0, 1]);
}

#[test]
fn the_enforcement_percentage_is_the_chance_of_an_outlier() {
    let mut rng = Rng::with_seed(7);
    let mut share = |enforcement_percentage| {
        let settings = Settings {
            failure_percentage: Some(FailurePercentage {
                enforcement_percentage,
                ..FailurePercentage::default()
            }),
            ..Settings::default()
        };
        let enforced = (0..1_000).filter(|_| {
            let (mut detector, began) = detector(5, settings.clone());
            let sweep = detector.sweep(began + seconds(10), &counted(5, &[4]), &mut rng);
            let [outlier] = sweep.outliers[..] else {
                panic!("{sweep:?}");
            };
            assert!(matches!(outlier.spared, None | Some(Spared::Enforcement)));
            outlier.spared.is_none()
        });
        enforced.count()
    };
    assert_eq!(share(0), 0);
    assert_eq!(share(100), 1_000);
    // Four standard deviations of 1,000 tosses at 0.3 are 58.
    assert!(share(30).abs_diff(300) < 58);
    assert_eq!(Spared::Enforcement.reason(), "enforcement_percentage");
}

#[test]
fn failures_in_a_row_eject_at_once_within_the_share() {
    let (mut detector, began) = detector(10, by_row(5));
    let now = began + seconds(1);
    let outlier = consecutive(&mut detector, 4, now).expect("in service");
    assert_eq!(outlier.spared, None);
    assert_eq!(outlier.why.to_string(), "5 calls failed in a row");
    assert_eq!(
        consecutive(&mut detector, 4, now),
        None,
        "it is ejected already"
    );
    assert_eq!(consecutive(&mut detector, 99, now), None, "nobody knows it");
    let next = consecutive(&mut detector, 5, now).expect("in service");
    assert_eq!(next.spared, Some(Spared::Share));
    assert_eq!(
        returned_after(&mut detector, 4, now, &counted(10, &[4, 5])),
        seconds(39),
        "the sweeps come at 10, 20, … s, and the first after 31 s returns it"
    );
}

#[test]
fn as_many_rows_of_failures_eject_as_are_to_be_enforced() {
    let mut rng = Rng::with_seed(9);
    let mut share = |enforcement_percentage| {
        let settings = Settings {
            consecutive_failures: Some(ConsecutiveFailures {
                enforcement_percentage,
                ..ConsecutiveFailures::default()
            }),
            ..Settings::default()
        };
        let enforced = (0..1_000).filter(|_| {
            let (mut detector, began) = detector(5, settings.clone());
            let outlier = detector.consecutive(4, began, &mut rng);
            match outlier.expect("in service").spared {
                None => true,
                Some(spared) => {
                    assert_eq!(spared, Spared::Enforcement);
                    assert_eq!(detector.ejection(4), None);
                    false
                }
            }
        });
        enforced.count()
    };
    assert_eq!(share(0), 0);
    assert_eq!(share(100), 1_000);
    // Four standard deviations of 1,000 tosses at 0.3 are 58.
    assert!(share(30).abs_diff(300) < 58);
}

#[test]
fn failures_in_a_row_are_nothing_where_nobody_asked_for_them() {
    let (mut detector, began) = detector(10, by_percentage());
    assert_eq!(consecutive(&mut detector, 4, began), None);
}

#[test]
fn an_endpoint_that_comes_again_is_a_new_one() {
    let (mut detector, began) = detector(10, by_row(5));
    consecutive(&mut detector, 4, began);
    assert_eq!(detector.endpoints(0..3), NOBODY);
    assert_eq!(detector.endpoints(0..10), NOBODY);
    assert_eq!(detector.ejection(4), None);
    let again = consecutive(&mut detector, 4, began).expect("in service");
    assert_eq!(again.spared, None, "its place is free again");
    assert_eq!(detector.ejected_for(4), Some(seconds(30)));
}

#[test]
fn when_endpoints_leave_those_that_are_ejected_longest_come_back() {
    let (mut detector, began) = detector(30, by_row(5));
    for (serial, at) in [(7, 1), (3, 2), (5, 3)] {
        let outlier = consecutive(&mut detector, serial, began + seconds(at));
        assert_eq!(outlier.expect("in service").spared, None);
    }
    assert_eq!(detector.endpoints(0..20), [7]);
    assert_eq!(detector.endpoints([3, 5, 6]), [3]);
    assert_eq!(detector.endpoints([5]), [5], "never the only one");
}

#[test]
fn a_smaller_share_brings_back_those_that_are_ejected_longest() {
    let (mut detector, began) = detector(30, by_row(5));
    for serial in [9, 8, 7] {
        consecutive(&mut detector, serial, began + seconds(10 - serial));
    }
    let smaller = Settings {
        max_ejection_percent: 4,
        ..by_row(5)
    };
    let configured = detector.configure(smaller, began + seconds(5));
    assert_eq!(configured.returned, [9, 8]);
    assert!(!configured.begins, "it goes on");
}

#[test]
fn a_new_interval_counts_from_when_the_present_one_began() {
    let (mut detector, began) = detector(3, by_percentage());
    let every = |interval| Settings {
        interval: seconds(interval),
        ..by_percentage()
    };
    detector.configure(every(60), began + seconds(5));
    assert_eq!(detector.next_sweep(), Some(began + seconds(60)));
    detector.configure(every(3), began + seconds(5));
    assert_eq!(
        detector.next_sweep(),
        Some(began + seconds(3)),
        "it is due already"
    );
    detector.configure(every(0), began + seconds(5));
    assert_eq!(
        detector.next_sweep(),
        Some(began + Settings::SHORTEST_INTERVAL)
    );
    detector.configure(every(u64::MAX), began + seconds(5));
    assert_eq!(detector.next_sweep(), None, "never");
}

#[test]
fn without_an_algorithm_all_is_forgotten() {
    let (mut detector, began) = detector(10, by_row(5));
    consecutive(&mut detector, 4, began);
    let off = detector.configure(Settings::default(), began + seconds(1));
    assert_eq!(
        off,
        Configured {
            returned: vec![4],
            begins: false
        }
    );
    assert_eq!(detector.next_sweep(), None);
    let sweep = detector.sweep(
        began + seconds(10),
        &counted(10, &[1]),
        &mut Rng::with_seed(1),
    );
    assert_eq!(sweep.outliers, []);
    let on = detector.configure(by_row(5), began + seconds(20));
    assert!(on.begins);
    assert_eq!(detector.next_sweep(), Some(began + seconds(30)));
    consecutive(&mut detector, 4, began + seconds(20));
    assert_eq!(
        detector.ejected_for(4),
        Some(seconds(30)),
        "the first ejection again"
    );
}

#[test]
fn counts_of_an_endpoint_that_left_count_for_nothing() {
    let (mut detector, began) = detector(5, by_percentage());
    detector.endpoints(0..4);
    let sweep = detector.sweep(
        began + seconds(10),
        &counted(5, &[4]),
        &mut Rng::with_seed(1),
    );
    assert_eq!(sweep.outliers, [], "four are too few to be compared");
}

/// Anything that can happen to a detector.
#[derive(Debug, Clone)]
enum Step {
    Endpoints(Vec<u64>),
    Configure(Settings),
    Sweep(Duration, Vec<Counts>),
    Consecutive(u64),
}

const SERIALS: std::ops::Range<u64> = 0..40;

fn settings() -> impl Strategy<Value = Settings> {
    let success_rate = (0..3_000_u32, 0..=100_u32, 0..6_u32, 0..50_u32).prop_map(
        |(stdev_factor, enforcement_percentage, minimum_hosts, request_volume)| SuccessRate {
            stdev_factor,
            enforcement_percentage,
            minimum_hosts,
            request_volume,
        },
    );
    let failure_percentage = (0..=100_u32, 0..=100_u32, 0..6_u32, 0..50_u32).prop_map(
        |(threshold, enforcement_percentage, minimum_hosts, request_volume)| FailurePercentage {
            threshold,
            enforcement_percentage,
            minimum_hosts,
            request_volume,
        },
    );
    (
        0..120_u32,
        0..60_u64,
        0..60_u64,
        proptest::option::of(success_rate),
        proptest::option::of(failure_percentage),
        0..3_u32,
    )
        .prop_map(
            |(
                max_ejection_percent,
                base,
                max,
                success_rate,
                failure_percentage,
                consecutive_failures,
            )| Settings {
                max_ejection_percent,
                base_ejection_time: seconds(base),
                max_ejection_time: seconds(max),
                success_rate,
                failure_percentage,
                consecutive_failures: row_of(consecutive_failures),
                ..Settings::default()
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    let count =
        (SERIALS, 0..200_u64, 0..200_u64).prop_map(|(serial, successes, failures)| Counts {
            serial,
            successes,
            failures,
        });
    prop_oneof![
        2 => btree_set(SERIALS, 0..40).prop_map(|set| Step::Endpoints(set.into_iter().collect())),
        1 => settings().prop_map(Step::Configure),
        4 => (0..40_u64, vec(count, 0..40)).prop_map(|(s, counts)| Step::Sweep(seconds(s), counts)),
        8 => SERIALS.prop_map(Step::Consecutive),
    ]
}

proptest! {
    #[test]
    fn the_ejected_share_never_exceeds_its_bound_and_every_change_is_told(
        seed: u64,
        steps in vec(step(), 1..60),
    ) {
        let mut rng = Rng::with_seed(seed);
        let mut now = Instant::now();
        let mut detector = Detector::default();
        let mut percent = Settings::default().max_ejection_percent;
        let mut there: Vec<u64> = Vec::new();
        // What somebody knows who only listens to the answers.
        let mut told = std::collections::BTreeSet::new();
        for step in steps {
            let (outliers, returned) = match step {
                Step::Endpoints(serials) => {
                    there.clone_from(&serials);
                    told.retain(|serial| there.contains(serial));
                    (Vec::new(), detector.endpoints(serials))
                }
                Step::Configure(settings) => {
                    percent = settings.max_ejection_percent;
                    (Vec::new(), detector.configure(settings, now).returned)
                }
                Step::Sweep(after, counts) => {
                    now += after;
                    let sweep = detector.sweep(now, &counts, &mut rng);
                    (sweep.outliers, sweep.returned)
                }
                Step::Consecutive(serial) => {
                    (detector.consecutive(serial, now, &mut rng).into_iter().collect(), Vec::new())
                }
            };
            for serial in ejected(&outliers) {
                prop_assert!(told.insert(serial), "{serial} is ejected twice");
                prop_assert!(there.contains(&serial), "{serial} is not there");
            }
            for serial in returned {
                prop_assert!(told.remove(&serial), "{serial} was not ejected");
            }
            prop_assert!(
                told.len() <= most_ejected(there.len(), percent),
                "{} of {} at {percent} %", told.len(), there.len(),
            );
            for serial in SERIALS {
                prop_assert_eq!(detector.ejection(serial).is_some(), told.contains(&serial));
            }
        }
    }
}
