//! Exit codes: 0 only when what was asked for was done.

use std::{fs, net::TcpListener, process::Command};

use serde_json::json;
use testkit::{Signal, eventually, process::Process};

use crate::place::{BOUND, Ended, Place, end, instance};

#[tokio::test]
async fn a_name_of_which_the_registry_has_nothing_is_refused_and_nothing_is_written() {
    for place in Place::each().await {
        let _registration = place.register(instance("greeter", "10.0.0.7:1")).await;
        for arguments in [
            &["export", "greter"][..],
            &["export", "greeter", "greter"],
            &["export", "--format", "prometheus", "greter"],
            &["why", "greter"],
            &["why", "greter", "10.0.0.7:1"],
            &["why", "greter/10.0.0.7:1"],
            &["drain", "greter/10.0.0.7:1"],
            &["undrain", "greter/10.0.0.7:1"],
            &["weight", "greter/10.0.0.7:1", "3"],
            &["weight", "greter/10.0.0.7:1", "own"],
            &["deregister", "--yes", "greter/10.0.0.7:1"],
            &["config", "get", "greter"],
            &["config", "delete", "greter"],
            &["config", "canary", "greter", "off"],
        ] {
            let ended = place.run(arguments).await;
            assert_eq!(ended.code, Some(1), "{arguments:?}: {ended:?}");
            assert!(ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
            let said = ended.stderr.last().expect("it says why");
            assert!(
                said.starts_with("error: ") && said.contains("greter"),
                "{arguments:?}: {said}"
            );
        }
        let known = place.registry.known_services().await.expect("the services");
        assert_eq!(known.len(), 1, "{known:?}");
    }
}

#[tokio::test]
async fn the_refusal_of_a_name_says_where_those_are_that_there_are() {
    let place = Place::directory();
    for arguments in [
        &["export", "greter"][..],
        &["why", "greter"],
        &["config", "delete", "greter"],
    ] {
        let line = place.refusal(arguments).await;
        assert!(
            line.contains(&place.url) && line.contains("`discovery services`"),
            "{line}"
        );
    }
    let line = place.refusal(&["deregister", "--yes", "greter/a"]).await;
    assert!(line.contains("--absent"), "{line}");
    let line = place.refusal(&["export", "greter", "uzer"]).await;
    assert!(line.contains("greter, uzer"), "{line}");
}

#[tokio::test]
async fn what_is_so_already_counts_as_done() {
    for place in Place::each().await {
        let _registration = place.register(instance("greeter", "10.0.0.7:1")).await;
        for arguments in [
            &["undrain", "greeter/10.0.0.7:1"][..],
            &["weight", "greeter/10.0.0.7:1", "own"],
            &["config", "delete", "greeter"],
            &["config", "canary", "greeter", "off"],
            &["drain", "greeter/10.0.0.7:1"],
            &["drain", "greeter/10.0.0.7:1"],
            &["deregister", "--yes", "greeter/10.0.0.7:1"],
        ] {
            place.text(arguments).await;
        }
    }
}

#[tokio::test]
async fn nobody_is_an_answer_to_who_is_there() {
    for place in Place::each().await {
        for (arguments, field) in [
            (&["services"][..], "services"),
            (&["list", "nobody"], "instances"),
            (&["intents", "nobody"], "intents"),
            (&["export"], "services"),
        ] {
            assert_eq!(place.json(arguments).await[field], json!([]));
        }
    }
}

/// A registry that takes connections, and says nothing.
fn mute() -> (TcpListener, String) {
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("etcd://{}/shop", mute.local_addr().expect("an address"));
    (mute, url)
}

#[tokio::test]
async fn what_is_interrupted_before_it_has_begun_was_not_done() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("targets.json");
    let path = file.to_str().expect("a path");
    for arguments in [
        &["watch"][..],
        &["watch", "greeter"],
        &["export", "--file", path, "--every", "1s"],
        &["services"],
    ] {
        let (_, ended) = interrupted_as_it_asks(arguments).await;
        assert_eq!(ended.code, Some(130), "{arguments:?}");
    }
    assert!(!file.exists());
}

/// How that ends when it is interrupted while it waits for the registry of that URL, which says nothing.
async fn interrupted_as_it_asks(arguments: &[&str]) -> (String, Ended) {
    let (mute, url) = mute();
    let process = Place::of(url.clone()).start(arguments);
    // It listens for signals before it connects.
    let connected = tokio::task::spawn_blocking(move || mute.accept().map(|_| mute));
    let connected = tokio::time::timeout(BOUND, connected).await;
    let _mute = connected.expect("it connects").expect("a thread");
    process.signal(Signal::SIGINT).expect("it runs");
    (url, end(&process).await)
}

#[tokio::test]
async fn an_import_that_is_interrupted_tells_what_it_has_written() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path");
    let config = json!({"loadBalancingConfig": [{"random": {}}]}).to_string();
    let intent = json!({"id": "10.0.0.7:1", "weight": 3});
    let shop = json!({"service": "shop", "service_config": config, "intents": [intent]});
    let exported = json!({"v": 1, "services": [shop]}).to_string();
    fs::write(&file, exported).expect("a file");
    let (url, ended) = interrupted_as_it_asks(&["import", path]).await;
    assert_eq!(ended.code, Some(130));
    let told = format!(
        "interrupted: wrote 0 of 1 service config and 0 of 1 intent to {url}; what was on its way may be there as well"
    );
    assert_eq!(ended.stderr, [told]);
}

#[tokio::test]
async fn an_import_that_is_interrupted_while_it_reads_has_imported_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    // Nobody writes into it.
    let import = Place::directory().start(&["import", pipe.to_str().expect("a path")]);
    // The shell that starts it catches the one and not the other, for which it listens first.
    let both = [Signal::SIGINT, Signal::SIGTERM];
    let listens = async || both.into_iter().all(|signal| catches(import.pid(), signal));
    eventually(BOUND, "it listens for signals", listens).await;
    import.signal(Signal::SIGTERM).expect("it runs");
    let ended = end(&import).await;
    assert_eq!(ended.code, Some(130));
    assert_eq!(ended.stderr, ["interrupted: nothing was imported"]);
}

/// Whether that process has something else in mind for a signal than to end at once (proc(5), `SigCgt`).
fn catches(process: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let mut lines = status.lines();
    let caught = lines.find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.expect("a mask").trim(), 16).expect("a number");
    caught & 1 << (signal as u32 - 1) != 0
}

#[tokio::test]
async fn what_goes_on_until_it_is_interrupted_was_done_once_it_has_begun() {
    let place = Place::directory();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("targets.json");
    let path = file.to_str().expect("a path");
    // Who is to be scraped may come later.
    let format = ["export", "--format", "prometheus", "later"];
    let export = place.start(&[&format[..], &["--file", path, "--every", "100ms"]].concat());
    let written = async || fs::read_to_string(&file).is_ok_and(|text| text == "[]\n");
    eventually(BOUND, "a file without targets", written).await;
    export.signal(Signal::SIGINT).expect("it runs");
    assert_eq!(end(&export).await.code, Some(0));
}

#[tokio::test]
async fn what_could_not_be_printed_was_not_done() {
    let place = Place::directory();
    let _registration = place.register(instance("greeter", "10.0.0.7:1")).await;
    for arguments in ["services", "list greeter", "export", "watch greeter"] {
        let mut command = Command::new("sh");
        let line = format!("exec \"$0\" --registry \"$1\" {arguments} >/dev/full");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_discovery"), &place.url]);
        let process = Process::spawn("discovery to a full disk", command).expect("it starts");
        let ended = end(&process).await;
        assert_eq!(ended.code, Some(1), "{arguments}: {ended:?}");
        assert!(
            ended.stderr.join("\n").contains("error: "),
            "{arguments}: {ended:?}"
        );
    }
}
