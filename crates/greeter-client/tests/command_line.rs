//! What the binary does with its command line, where nobody answers.

use std::{net::TcpListener, process::Command, time::Duration};

use tempfile::TempDir;
use testkit::{Signal, process::Process};

const BOUND: Duration = Duration::from_secs(30);

/// A client with a registry of its own that nobody has registered in.
fn start(arguments: &[&str]) -> (Process, TempDir) {
    let directory = TempDir::new().expect("a directory");
    let registry = format!("file://{}/registry", directory.path().display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_greeter-client"));
    command.args(["--registry", &registry]).args(arguments);
    let process = Process::spawn("greeter-client", command).expect("it starts");
    (process, directory)
}

struct Ended {
    code: Option<i32>,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

async fn end(process: &Process) -> Ended {
    let status = process.wait(BOUND).await.expect("it ends");
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut lines = process.lines();
    while let Some(line) = lines.next().await {
        let stream = if line.stderr {
            &mut stderr
        } else {
            &mut stdout
        };
        stream.push(line.text.to_string());
    }
    Ended {
        code: status.code(),
        stdout,
        stderr,
    }
}

async fn run(arguments: &[&str]) -> Ended {
    let (process, _directory) = start(arguments);
    end(&process).await
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[tokio::test]
async fn a_wrong_command_line_is_refused_with_exit_code_2() {
    for (arguments, named) in [
        (vec!["--conut", "3"], "--conut"),
        (vec!["--count", "many"], "many"),
        (vec!["--count", "1", "--forever"], "--forever"),
        (vec!["--timeout", "0s"], "--timeout"),
        (vec!["--output", "xml"], "xml"),
    ] {
        let ended = run(&arguments).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        assert!(
            ended.stderr.join("\n").contains(named),
            "{:?}",
            ended.stderr
        );
        assert_eq!(ended.stdout, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_named_in_one_line_with_exit_code_1() {
    for (arguments, named) in [
        (vec!["--target", "gopher:///greeter"], "gopher"),
        (vec!["--target", "../etc"], "../etc"),
        (vec!["--target", "static:///nowhere"], "nowhere"),
        (vec!["--policy", "fastest"], "fastest"),
        (
            vec!["--service-config", r#"{"loadBalancingPolice": "x"}"#],
            "loadBalancingPolice",
        ),
        (vec!["--service-config", "{"], "service config"),
        (
            vec!["--service-config", "@/nowhere/config.json"],
            "/nowhere/config.json",
        ),
        (
            vec!["--config", "/nowhere/client.toml"],
            "/nowhere/client.toml",
        ),
    ] {
        let ended = run(&arguments).await;
        assert_eq!(ended.code, Some(1), "{arguments:?}: {:?}", ended.stderr);
        let [line] = ended.stderr.as_slice() else {
            panic!("{arguments:?} gave {:?}", ended.stderr);
        };
        assert!(
            line.starts_with("error: ") && line.contains(named),
            "{line}"
        );
    }
}

#[tokio::test]
async fn the_wait_for_an_instance_is_said_once_and_ended_by_ctrl_c() {
    let (process, _directory) = start(&["--concurrency", "4"]);
    let waiting = "waiting for an instance of greeter";
    process
        .wait_for_line(waiting, BOUND)
        .await
        .expect("it says so");
    process
        .wait_for_line("2s: ", BOUND)
        .await
        .expect("it goes on waiting");
    process.signal(Signal::SIGINT).expect("it runs");

    let ended = end(&process).await;
    assert_eq!(ended.code, Some(0), "nothing failed");
    let said = ended.stderr.iter().filter(|line| line.contains(waiting));
    assert_eq!(said.count(), 1, "{:?}", ended.stderr);
    assert_eq!(
        ended.stdout.last().map(String::as_str),
        Some("0 calls were made and 0 failed.")
    );
}

#[tokio::test]
async fn sigterm_ends_it_like_ctrl_c() {
    let (process, _directory) = start(&["--output", "json"]);
    process
        .wait_for_line("waiting", BOUND)
        .await
        .expect("it waits");
    process.signal(Signal::SIGTERM).expect("it runs");
    let ended = end(&process).await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stdout.len(), 1);
    assert!(
        ended.stdout[0].starts_with(r#"{"calls":0,"failures":0,"#),
        "{:?}",
        ended.stdout
    );
}

#[tokio::test]
async fn a_run_that_ends_without_a_call_is_no_success() {
    let ended = run(&["--duration", "500ms"]).await;
    assert_eq!(ended.code, Some(1));
    let last = ended.stderr.last().expect("a reason");
    let why = "error: no call was made: there is no instance of greeter in file:";
    assert!(last.starts_with(why), "{last}");
    assert!(
        ended.stdout.is_empty(),
        "a table of zeros says nothing: {:?}",
        ended.stdout
    );
}

#[tokio::test]
async fn calls_that_fail_fast_keep_nothing_from_ending_them() {
    let (process, _directory) = start(&["--fail-fast", "--interval", "0s", "--concurrency", "2"]);
    process
        .wait_for_line("1s: ", BOUND)
        .await
        .expect("it goes on");
    process.signal(Signal::SIGINT).expect("it runs");
    let ended = end(&process).await;
    assert_eq!(ended.code, Some(1), "all of its calls failed");
}

#[tokio::test]
async fn with_fail_fast_a_call_without_an_instance_fails() {
    let target = format!("static:///{}", nobody());
    let ended = run(&[
        "--target",
        &target,
        "--fail-fast",
        "--count",
        "3",
        "--output",
        "json",
    ])
    .await;
    assert_eq!(ended.code, Some(1));
    let [object] = ended.stdout.as_slice() else {
        panic!("{:?}", ended.stdout);
    };
    let figures = testkit::fleet::Figures::parse(object).expect("the promised shape");
    assert_eq!((figures.calls, figures.failures), (3, 3));
    assert_eq!(figures.statuses["UNAVAILABLE"], 3);
    assert!(figures.instances.is_empty());
}

#[tokio::test]
async fn failures_are_shown_with_what_they_said() {
    let target = format!("static:///{}", nobody());
    let ended = run(&["--target", &target, "--fail-fast", "--count", "2"]).await;
    let printed = ended.stdout.join("\n");
    assert!(printed.contains("2 (UNAVAILABLE 2)"), "{printed}");
    assert!(printed.contains("first UNAVAILABLE: "), "{printed}");
    assert!(
        !printed.contains('\u{1b}'),
        "no colour where there is no terminal"
    );
}

#[tokio::test]
async fn the_configuration_in_force_is_printed() {
    let ended = run(&["--print-config"]).await;
    assert_eq!(ended.code, Some(0));
    let printed = ended.stdout.join("\n");
    assert!(
        printed.contains("[registry]") && printed.contains("/registry\""),
        "{printed}"
    );
    assert!(printed.contains("level = \"warn\""), "{printed}");
}
