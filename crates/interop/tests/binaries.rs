//! What the binaries do with their command lines.

use std::{process::Command, time::Duration};

use interop::Case;
use testkit::process::Process;

const BOUND: Duration = Duration::from_mins(1);

async fn start_server() -> (Process, String) {
    let command = Command::new(env!("CARGO_BIN_EXE_interop-server"));
    let server = Process::spawn("interop-server", command).expect("it starts");
    let said = server.wait_for_line("listening on ", BOUND).await;
    let said = said.expect("it serves");
    let (_, address) = said.rsplit_once(' ').expect("an address");
    let target = format!("static:///{address}");
    (server, target)
}

/// Runs the client to its end: its exit code, and its lines.
async fn client(arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_interop-client"));
    command.args(arguments);
    let client = Process::spawn("interop-client", command).expect("it starts");
    let status = client.wait(BOUND).await.expect("it ends");
    let (mut lines, mut said) = (client.lines(), Vec::new());
    while let Some(line) = lines.next().await {
        said.push(line.text.to_string());
    }
    (status.code(), said)
}

#[tokio::test]
async fn every_case_is_run_and_told_on_a_line_of_its_own() {
    let (_server, target) = start_server().await;
    let (code, lines) = client(&["--target", &target]).await;
    assert_eq!(code, Some(0), "{lines:?}");
    let passed = lines
        .iter()
        .filter_map(|line| line.split_once(": passed in "));
    let told: Vec<_> = passed.map(|(name, _)| name.to_owned()).collect();
    let names: Vec<_> = Case::all().iter().map(|case| case.name()).collect();
    assert_eq!(told, names);
}

#[tokio::test]
async fn a_case_that_is_named_is_run_alone_and_told_in_json_on_request() {
    let (_server, target) = start_server().await;
    let wanted = ["--case", "ping_pong", "--output", "json"];
    let (code, lines) = client(&[&["--target", &target][..], &wanted].concat()).await;
    assert_eq!((code, lines.len()), (Some(0), 1), "{lines:?}");
    let told = r#"{"case":"ping_pong","failure":null,"milliseconds":"#;
    assert!(lines[0].starts_with(told), "{lines:?}");
}

#[tokio::test]
async fn a_case_that_fails_is_told_and_is_exit_code_1() {
    let port = testkit::Port::free().expect("a port where nobody listens");
    let target = format!("static:///127.0.0.1:{port}");
    let (code, lines) = client(&["--target", &target, "--case", "empty_unary"]).await;
    assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
    assert!(lines[0].starts_with("empty_unary: FAILED: "), "{lines:?}");
}

#[tokio::test]
async fn a_case_that_is_not_known_is_exit_code_2_and_the_cases_are_named() {
    let (code, lines) = client(&["--target", "static:///127.0.0.1:1", "--case", "pong_ping"]).await;
    assert_eq!(code, Some(2), "{lines:?}");
    assert!(lines.concat().contains("ping_pong"), "{lines:?}");
}
