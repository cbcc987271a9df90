//! `server`, `client`, `completions` and `man`.

use std::{fs, process::Stdio};

use serde_json::Value;
use testkit::{Port, Signal, fleet::Figures};
use tokio::io::AsyncWriteExt;

use crate::place::{BOUND, Place, end};

#[tokio::test]
async fn one_binary_greets_and_is_found() {
    let place = Place::directory();
    let port = Port::free().expect("a port");
    let address = port.address();
    let server = place.start(&["server", "--listen", &address]);
    let listens = server.wait_for_line(&address, BOUND).await;
    listens.expect("it says where it listens");

    // It waits until there is somebody.
    let text = place
        .text(&[
            "client",
            "--count",
            "10",
            "--timeout",
            "30s",
            "--output",
            "json",
        ])
        .await;
    let figures = Figures::parse(&text).expect("figures");
    assert_eq!((figures.calls, figures.failures), (10, 0));
    assert_eq!(figures.instances[&address], 10);
    // What stands before the command's name is the command's too.
    let before = place
        .text(&[
            "--output",
            "json",
            "client",
            "--count",
            "1",
            "--timeout",
            "30s",
        ])
        .await;
    let object: Value = serde_json::from_str(&before).expect("one object");
    assert_eq!(object["calls"], 1);

    server.signal(Signal::SIGTERM).expect("it runs");
    assert_eq!(end(&server).await.code, Some(0));
    assert_eq!(
        place.text(&["list", "greeter"]).await,
        format!("greeter has no instance in {}", place.url)
    );
}

#[tokio::test]
async fn shells_are_given_what_they_complete_by() {
    let place = Place::directory();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.text(&["completions", shell]).await;
        for named in ["undrain", "registry-timeout", "client"] {
            assert!(script.contains(named), "{shell}: {named}");
        }
    }
    let script = place.text(&["completions", "bash"]).await;
    let mut bash = tokio::process::Command::new("bash");
    let mut bash = bash.arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
    let mut stdin = bash.stdin.take().expect("it is piped");
    stdin
        .write_all(script.as_bytes())
        .await
        .expect("bash reads it");
    drop(stdin);
    assert!(bash.wait().await.expect("it ends").success());
}

#[tokio::test]
async fn there_is_a_manual_page_for_each_command() {
    let place = Place::directory();
    let page = place.text(&["man"]).await;
    assert!(page.contains(".TH discovery 1"), "{page}");
    let directory = tempfile::tempdir().expect("a directory");
    let pages = directory.path().join("man1");
    place
        .text(&["man", "--directory", pages.to_str().expect("a path")])
        .await;
    for command in [
        "discovery",
        "discovery-drain",
        "discovery-config-set",
        "discovery-client",
    ] {
        let page = fs::read_to_string(pages.join(format!("{command}.1"))).expect(command);
        assert!(page.contains("SYNOPSIS"), "{page}");
    }
    let line = place
        .refusal(&["man", "--directory", "/proc/nowhere"])
        .await;
    assert!(line.contains("/proc/nowhere"), "{line}");
}
