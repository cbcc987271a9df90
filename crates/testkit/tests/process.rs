//! Processes are read, signalled, and end with their owner.

use std::{
    ffi::OsStr, fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path, process::Command,
    time::Duration,
};

use testkit::{
    Signal, eventually,
    process::{Process, binary, on_path},
};

const BOUND: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Process::spawn("script", command).expect("sh starts")
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_line_is_waited_for_on_either_stream() {
    let process = shell("echo one; echo two >&2; exec sleep 60");
    assert_eq!(
        process.wait_for_line("tw", BOUND).await.expect("it comes"),
        "two"
    );
    assert_eq!(
        process
            .wait_for_line("one", BOUND)
            .await
            .expect("it came before"),
        "one"
    );
}

#[tokio::test]
async fn a_process_that_ends_without_the_line_is_an_error_that_shows_what_it_printed() {
    let process = shell("echo no such thing; exit 3");
    let error = process
        .wait_for_line("ready", BOUND)
        .await
        .expect_err("it has ended");
    let error = format!("{error:#}");
    assert!(
        error.contains("no such thing") && error.contains("\"ready\""),
        "{error}"
    );
    assert_eq!(
        process.wait(BOUND).await.expect("it has ended").code(),
        Some(3)
    );
}

#[tokio::test]
async fn a_dropped_process_is_gone_and_reaped() {
    let process = shell("exec sleep 60");
    let pid = process.pid();
    assert!(exists(pid));
    drop(process);
    assert!(!exists(pid));
}

#[tokio::test]
async fn a_process_is_asked_to_end_before_it_is_killed() {
    let process = shell("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done");
    process.wait_for_line("up", BOUND).await.expect("it is up");
    let status = process.terminate(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(7));
    assert!(
        process.signal(Signal::SIGTERM).is_err(),
        "nobody is there any more"
    );
}

#[tokio::test]
async fn a_process_has_stopped_when_sigstop_returns_and_goes_on_after_sigcont() {
    let process = shell("while :; do :; done");
    let state = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).expect("it is there");
        stat.rsplit_once(") ")
            .expect("its name is in parentheses")
            .1
            .chars()
            .next()
    };
    for _ in 0..20 {
        process.signal(Signal::SIGSTOP).expect("it is there");
        assert_eq!(state(), Some('T'));
        process.signal(Signal::SIGCONT).expect("it is there");
        eventually(BOUND, "it to go on", async || state() == Some('R')).await;
    }
}

/// Where a parent that is to be killed writes its child's process id.
const PID_FILE: &str = "TESTKIT_CHILD_PID_FILE";

/// This process as the parent that is to be killed, if it was started as one: it has a child, and stays with it.
async fn stay_if_a_parent() {
    if let Ok(file) = std::env::var(PID_FILE) {
        let child = shell("exec sleep 60");
        std::fs::write(&file, child.pid().to_string()).expect("the file is written");
        child.wait(Duration::from_mins(1)).await.expect("it sleeps");
    }
}

/// The test of that name, started again as the parent to be killed, and its child.
async fn parent(test: &str, directory: &Path, search: &OsStr) -> (Process, u32) {
    let file = directory.join("pid");
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command
        .args(["--exact", test])
        .env(PID_FILE, &file)
        .env("PATH", search);
    let parent = Process::spawn("parent", command).expect("it starts");
    let child = testkit::until(BOUND, "the child's pid", async || {
        Ok(std::fs::read_to_string(&file)?.parse()?)
    })
    .await
    .expect("it is written");
    assert!(exists(child));
    (parent, child)
}

#[tokio::test]
async fn a_process_dies_with_a_parent_that_was_killed() {
    stay_if_a_parent().await;
    let directory = tempfile::tempdir().expect("a directory");
    let search = std::env::var_os("PATH").expect("a search path");
    let (parent, child) = parent(
        "a_process_dies_with_a_parent_that_was_killed",
        directory.path(),
        &search,
    )
    .await;
    parent.kill().await.expect("it is killed");
    eventually(BOUND, "the child's end", async || !exists(child)).await;
}

#[tokio::test]
async fn a_process_does_not_begin_without_a_parent_that_was_killed_as_it_was_started() {
    stay_if_a_parent().await;
    let directory = tempfile::tempdir().expect("a directory");
    // A `setpriv` that asks for nothing before it may.
    let setpriv = on_path("setpriv").expect("util-linux");
    let go = directory.path().join("go");
    let slow = directory.path().join("setpriv");
    let script = format!(
        "#!/bin/sh\nuntil [ -e '{}' ]; do sleep 0.01; done\nexec '{}' \"$@\"\n",
        go.display(),
        setpriv.display()
    );
    std::fs::write(&slow, script).expect("it is written");
    std::fs::set_permissions(&slow, Permissions::from_mode(0o755)).expect("it is ours");
    let others = std::env::var_os("PATH").expect("a search path");
    let search = std::env::join_paths(
        std::iter::once(directory.path().to_owned()).chain(std::env::split_paths(&others)),
    )
    .expect("a search path");

    let (parent, child) = parent(
        "a_process_does_not_begin_without_a_parent_that_was_killed_as_it_was_started",
        directory.path(),
        &search,
    )
    .await;
    parent.kill().await.expect("it is killed");
    assert!(exists(child), "nobody has ended it yet");
    std::fs::write(&go, "").expect("the file is written");
    eventually(BOUND, "the child's end", async || !exists(child)).await;
}

#[test]
fn a_binary_that_was_not_built_is_an_error_that_says_how_to_build_it() {
    let error = binary("no-such-binary")
        .expect_err("there is none")
        .to_string();
    assert!(error.contains("cargo build -p no-such-binary"), "{error}");
}

#[test]
fn a_program_that_does_not_exist_is_an_error_that_names_it() {
    let error =
        Process::spawn("ghost", Command::new("/no/such/program")).expect_err("there is none");
    assert!(
        format!("{error:#}").contains("/no/such/program"),
        "{error:#}"
    );
}
