//! The demo as whoever runs it sees it.

use std::{path::Path, process::Command, time::Duration};

use testkit::{Signal, process::Process, until};

/// The bound for all of it; it takes 25 s.
const BOUND: Duration = Duration::from_mins(2);

fn start() -> Process {
    let command = Command::new(env!("CARGO_BIN_EXE_demo"));
    Process::spawn("demo", command).expect("it starts")
}

fn printed(demo: &Process) -> Vec<String> {
    let lines = demo.output().into_iter();
    lines.map(|line| line.text.to_string()).collect()
}

#[tokio::test]
async fn the_story_is_told_to_its_end_and_no_call_fails() {
    let demo = start();
    let sentence = demo
        .wait_for_line("calls were made and", BOUND)
        .await
        .expect("the sentence");
    assert!(sentence.ends_with(" and 0 failed."), "{sentence}");
    let (status, told) = demo.printed(BOUND).await.expect("it ends");
    assert!(status.success());
    let told = told.join("\n");
    for step in [
        "three greeters",
        "a client",
        "two more",
        "SIGKILL",
        "SIGTERM",
        "restart",
        "p99.9",
        "a user-service",
        "users/ann  ann@example.com  Ann",
        "users/ben  ben@example.com  Ben",
        "users/eve  eve@example.com  Eve",
    ] {
        assert!(told.contains(step), "{step} is missing in:\n{told}");
    }
    for name in ["Ann", "Ben", "Eve"] {
        let told_in_two = told.split_once(&format!("Hello {name} from "));
        let (before, rest) =
            told_in_two.unwrap_or_else(|| panic!("{name} is not greeted in:\n{told}"));
        let greeter = rest.lines().next().expect("an address");
        assert!(
            before.contains(&format!("{greeter} (process ")),
            "{greeter} is no greeter in:\n{told}"
        );
    }
    assert!(
        !told.contains('\u{1b}'),
        "no colour where there is no terminal"
    );
}

#[tokio::test]
async fn ctrl_c_ends_it_with_all_that_it_has_started() {
    let demo = start();
    demo.wait_for_line("0 failed", BOUND)
        .await
        .expect("the client calls");
    let processes: Vec<_> = printed(&demo)
        .iter()
        .filter_map(|line| process(line))
        .collect();
    assert!(processes.len() >= 3, "{processes:?}");
    demo.signal(Signal::SIGINT).expect("it runs");
    let status = demo.wait(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(130));
    for process in processes {
        let gone = async || {
            anyhow::ensure!(!Path::new("/proc").join(&process).exists(), "it is there");
            Ok(())
        };
        until(BOUND, "the greeter to be gone", gone)
            .await
            .expect("it is reaped");
    }
}

/// `127.0.0.1:19000 (process 6746)`
fn process(line: &str) -> Option<String> {
    let (_, process) = line.split_once("(process ")?;
    Some(process.strip_suffix(')')?.to_owned())
}
