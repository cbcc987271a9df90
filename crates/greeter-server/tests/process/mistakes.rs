//! What a mistake is answered with: one line that says what would do, and the exit code.

use std::{fs, net::TcpListener};

use testkit::process::Process;

use crate::running::{BOUND, command, runtime};

/// Runs the server to its end, and gives its exit code and the lines on stderr.
async fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let runtime = runtime();
    let mut command = command(runtime.path(), arguments);
    command.envs(environment.iter().copied());
    let server = Process::spawn("greeter-server", command).expect("it starts");
    let status = server.wait(BOUND).await.expect("it ends");
    let mut lines = server.lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next().await {
        assert!(line.stderr, "on stdout: {}", line.text);
        said.push(line.text.to_string());
    }
    (status.code(), said)
}

/// One line on stderr that has all of `parts`, and exit code 1.
async fn is_refused(arguments: &[&str], environment: &[(&str, &str)], parts: &[&str]) {
    let (code, lines) = refused(arguments, environment).await;
    assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
    for part in parts {
        assert!(lines[0].contains(part), "{part:?} is not in: {}", lines[0]);
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_is_named_with_what_would_do() {
    for (arguments, parts) in [
        (
            ["--listen", "nowhere"],
            ["--listen", "\"nowhere\"", "IP:PORT"],
        ),
        (
            ["--listen", "192.0.2.77:1"],
            ["192.0.2.77:1", "cannot listen", "os error"],
        ),
        (
            ["--advertise", "0.0.0.0:1"],
            ["0.0.0.0:1", "cannot be advertised", "HOST:PORT"],
        ),
        (
            ["--advertise", "a b"],
            ["--advertise", "\"a b\"", "host:port"],
        ),
        (["--service", "../etc"], ["--service", "\"../etc\"", "A-Z"]),
        (
            ["--registry", "zookeeper://h"],
            ["zookeeper://h", "etcd://", "file:///"],
        ),
        (["--registry", "etcd://"], ["etcd", "member", "host:port"]),
        (
            ["--registry", "file:///proc/none"],
            ["/proc/none", "directory", "os error"],
        ),
        (
            ["--config", "/no/such.toml"],
            ["/no/such.toml", "No such file", "configuration"],
        ),
    ] {
        is_refused(&arguments, &[], &parts).await;
    }
}

#[tokio::test]
async fn an_unknown_key_is_named_with_its_file_or_its_variable() {
    let directory = runtime();
    let file = directory.path().join("greeter.toml");
    fs::write(&file, "[server]\nlisen = '127.0.0.1:1'\n").expect("written");
    let path = file.to_str().expect("Unicode");
    is_refused(
        &["--config", path],
        &[],
        &["server.lisen", "greeter.toml", "listen"],
    )
    .await;
    let variable = ("DISCOVERY__SERVER__LISEN", "127.0.0.1:1");
    is_refused(&[], &[variable], &["server.lisen", variable.0, "listen"]).await;
}

#[tokio::test]
async fn a_file_that_is_no_toml_is_one_line_too() {
    let directory = runtime();
    let file = directory.path().join("greeter.toml");
    fs::write(&file, "[server\nlisten = 1\n").expect("written");
    let path = file.to_str().expect("Unicode");
    is_refused(&["--config", path], &[], &["greeter.toml", "line 1"]).await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    is_refused(&["--listen", &address], &[], &[&address, "in use"]).await;
}

#[tokio::test]
async fn a_registry_that_is_required_and_not_there_ends_it_within_a_bound() {
    let port = testkit::Port::free().expect("a port");
    let url = format!("etcd://127.0.0.1:{port}");
    let arguments = ["--registry", &url, "--require-registry"];
    let quiet = ("DISCOVERY__LOG__LEVEL", "off");
    is_refused(&arguments, &[quiet], &[&url, "10s", "required", "refused"]).await;
}

#[tokio::test]
async fn a_wrong_command_line_is_a_mistake_of_usage() {
    let (code, lines) = refused(&["--lisen", "x"], &[]).await;
    assert_eq!(code, Some(2), "{lines:?}");
    assert!(lines[0].contains("--lisen") && lines.iter().any(|line| line.contains("--listen")));
}

#[tokio::test]
async fn what_is_in_force_is_printed_without_secrets() {
    let runtime = runtime();
    let url = "etcd://ann:s3cr3t@h1:1,h2:2/shop";
    let mut command = command(runtime.path(), &["--print-config", "--registry", url]);
    command.env("DISCOVERY__REGISTRY__TTL", "5s");
    let server = Process::spawn("greeter-server", command).expect("it starts");
    assert!(server.wait(BOUND).await.expect("it ends").success());
    server
        .wait_for_line("etcd://ann:***@h1:1,h2:2/shop", BOUND)
        .await
        .expect("the URL");
    server
        .wait_for_line("ttl = \"5s\"", BOUND)
        .await
        .expect("the ttl");
    assert!(
        server
            .output()
            .iter()
            .all(|line| !line.text.contains("s3cr3t"))
    );
}
