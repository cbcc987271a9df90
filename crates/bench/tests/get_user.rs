//! `bench get-user`, with few calls: what it comes to depends on the machine, and is not looked at.

use std::{process::Command, time::Duration};

use testkit::process::Process;

const BOUND: Duration = Duration::from_mins(2);

#[tokio::test]
async fn both_servers_are_measured_and_the_table_says_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args("get-user --callers 8 --calls 1000 --rounds 1 --connections 2".split(' '));
    let bench = Process::spawn("bench", command).expect("it starts");
    let status = bench.wait(BOUND).await.expect("it ends");
    let (mut lines, mut printed) = (bench.lines(), Vec::new());
    while let Some(line) = lines.next().await {
        printed.push(line.text);
    }
    assert!(status.success(), "{printed:?}");
    let row = |name: &str| -> Vec<f64> {
        let row = printed.iter().find(|line| line.starts_with(name));
        let row = row.unwrap_or_else(|| panic!("{name} is missing in {printed:?}"));
        let cells = row.split('|').map(|cell| cell.trim().replace(',', ""));
        cells.filter_map(|cell| cell.parse().ok()).collect()
    };
    let (constant, real) = (row("| tonic, a constant"), row("| user-service, SQLite"));
    assert_eq!((constant.len(), real.len()), (3, 3), "{printed:?}");
    assert!(constant.iter().chain(&real).all(|figure| *figure > 0.0));
}
