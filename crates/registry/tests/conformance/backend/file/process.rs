//! A test that runs itself again, as a process of its own.

use std::{env, path::PathBuf, process::Command};

use testkit::process::Process;

use super::File;
use crate::fixture::PATIENCE;

const ROOT: &str = "REGISTRY_TEST_ROOT";

/// The registry's directory, in a process that was started by [`again`]; none in the test that starts it.
pub(super) fn given_root() -> Option<PathBuf> {
    env::var_os(ROOT).map(PathBuf::from)
}

/// This executable, to run the one test of that name in `registry`.
pub(super) fn again(test: &str, registry: &File) -> Command {
    let mut command = Command::new(env::current_exe().expect("this executable"));
    command
        .args(["--exact", test, "--nocapture"])
        .env(ROOT, registry.root());
    command
}

/// The same, after what a shell does first: `script` runs it as `"$@"`, and finds the directory in `$ROOT`.
pub(super) fn after(script: &str, command: &Command, registry: &File) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program());
    shell.args(command.get_args());
    shell
        .env(ROOT, registry.root())
        .env("ROOT", registry.root());
    shell
}

/// Runs it to its end, which has to be a good one.
pub(super) async fn succeed(name: &str, command: Command) {
    let process = Process::spawn(name, command).expect("it starts");
    let passed = process.wait_for_line("1 passed", PATIENCE).await;
    passed.expect("the test is run, and passes");
    let status = process.wait(PATIENCE).await.expect("it ends");
    assert!(status.success(), "{}", process.complaint("failed"));
}
