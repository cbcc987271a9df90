//! `bench limits`, for a second: what its figures come to depends on the machine, and is not looked at.

use std::{process::Command, time::Duration};

use clap::ValueEnum;
use testkit::{hostile::Attack, process::Process};

const BOUND: Duration = Duration::from_mins(2);
const DOCUMENTED: &str = include_str!("../../../docs/benchmarks.md");

/// What has the most to say of messages, of answers, of frames, and of a server that speaks TLS.
const TRIED: [Attack; 4] = [
    Attack::TooLongMessages,
    Attack::UnreadAnswers,
    Attack::RepeatedResets,
    Attack::SlowTlsHandshake,
];

#[tokio::test]
async fn callers_are_served_beside_a_peer_and_the_table_says_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args("limits --callers 2 --seconds 1 --rounds 1".split(' '));
    for attack in TRIED {
        let word = attack.to_possible_value().expect("none is skipped");
        command.arg(word.get_name());
    }
    let bench = Process::spawn("bench", command).expect("it starts");
    let status = bench.wait(BOUND).await.expect("it ends");
    let (mut lines, mut printed) = (bench.lines(), Vec::new());
    while let Some(line) = lines.next().await {
        printed.push(line.text);
    }
    assert!(status.success(), "{printed:?}");
    for attack in TRIED {
        let row = printed
            .iter()
            .find(|line| line.contains(&format!("| {} ", attack.name())));
        let row = row.unwrap_or_else(|| panic!("{attack:?} is missing in {printed:?}"));
        let figures: Vec<f64> = row
            .split('|')
            .filter_map(|cell| cell.trim().replace(',', "").parse().ok())
            .collect();
        let [tries, without, with, .., failed, _resident] = figures[..] else {
            panic!("{row}");
        };
        let served = tries > 0.0 && without > 0.0 && with > 0.0;
        assert!(served && failed < 1.0, "{row}");
    }
}

#[test]
fn the_documented_table_has_a_row_for_each_attack() {
    for attack in Attack::value_variants() {
        let row = format!("\n| {} |", attack.name());
        assert!(DOCUMENTED.contains(&row), "{row:?} in docs/benchmarks.md");
    }
}
