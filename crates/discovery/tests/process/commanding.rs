//! `register`: in which order the registry and the command are told, and how long somebody who asks for the end waits.

use std::{fs, path::Path};

use testkit::{Port, Signal, etcd::Cluster, process::Process};

use crate::{
    place::{BOUND, Ended, Place, end, service},
    registering::{AT, FAST, leaves, register, until_there_are},
};

/// Waits until a process whose id is the last line of a file has ended, and its parent knows.
async fn until_gone(file: &Path) {
    testkit::eventually(BOUND, "the end of a process", async || {
        let written = fs::read_to_string(file).unwrap_or_default();
        let id = written.lines().last();
        id.is_some_and(|id| !Path::new("/proc").join(id).exists())
    })
    .await;
}

/// Asks for the end until it comes.
async fn ask_again_and_again(process: &Process) -> Ended {
    testkit::eventually(BOUND, "the end", async || {
        // There is nobody to ask once it has ended.
        let _ = process.signal(Signal::SIGTERM);
        process.try_wait().is_some()
    })
    .await;
    end(process).await
}

#[tokio::test]
async fn a_command_is_registered_when_it_takes_connections_and_not_before() {
    let place = Place::directory();
    let mut watch = place.registry.watch(&service("web"));
    let directory = tempfile::tempdir().expect("a directory");
    let port = Port::free().expect("a port");
    let (address, go) = (port.address(), directory.path().join("go"));
    let script = format!(
        "until test -e {}; do sleep 0.05; done; DISCOVERY__REGISTRY__URL={} exec {} server --listen {address}",
        go.display(),
        place.url,
        env!("CARGO_BIN_EXE_discovery"),
    );
    let command = ["--", "sh", "-c", &script];
    let process = place.start(&[&["register", "web", &address][..], &FAST, &command].concat());
    let said = process.wait_for("what becomes of it", |line| line.starts_with("web/"), BOUND);
    let said = said.await.expect("it says so");
    assert!(said.contains("is not registered yet"), "{said}");
    let listed = place.registry.list(&service("web")).await;
    assert!(listed.expect("a list").is_empty(), "nobody answers yet");
    fs::write(&go, "").expect("a file");
    until_there_are(1, &mut watch).await;
    process.signal(Signal::SIGTERM).expect("it runs");
    leaves(&process, &place).await;
}

#[tokio::test]
async fn a_command_is_told_to_end_when_its_instance_is_gone() {
    let place = Place::directory();
    let mut watch = place.registry.watch(&service("web"));
    let root = place.url.strip_prefix("file://").expect("a directory");
    let record = format!("{root}/web/{AT}.json");
    let script = format!(
        "trap 'if test -e {record}; then exit 6; else exit 5; fi' TERM; while :; do sleep 0.05; done"
    );
    let process = place.start(&register(&[
        "--check",
        "exec=true",
        "--",
        "sh",
        "-c",
        &script,
    ]));
    until_there_are(1, &mut watch).await;
    assert!(Path::new(&record).exists(), "it is registered");
    process.signal(Signal::SIGTERM).expect("it runs");
    let ended = end(&process).await;
    assert_eq!(ended.code, Some(5), "it was registered still: {ended:?}");
}

#[tokio::test]
async fn who_asks_again_does_not_wait_for_a_registry_that_hangs_when_the_command_has_ended() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let mut watch = place.registry.watch(&service("web"));
    let directory = tempfile::tempdir().expect("a directory");
    let (over, id) = (directory.path().join("over"), directory.path().join("id"));
    let script = format!(
        "echo $$ > {}; until test -e {}; do sleep 0.05; done; exit 7",
        id.display(),
        over.display()
    );
    let process = place.start(&register(&[
        "--check",
        "exec=true",
        "--",
        "sh",
        "-c",
        &script,
    ]));
    until_there_are(1, &mut watch).await;
    cluster.pause(0).expect("it runs");
    fs::write(&over, "").expect("a file");
    until_gone(&id).await;
    let ended = ask_again_and_again(&process).await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    // That is said when the registry has been waited for.
    let said = ended.stderr.join("\n");
    assert!(!said.contains("is left to its lease"), "{said}");
}

#[tokio::test]
async fn who_asks_again_does_not_wait_for_a_registry_that_hangs_when_health_has_turned() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let mut watch = place.registry.watch(&service("web"));
    let directory = tempfile::tempdir().expect("a directory");
    let (ill, id) = (directory.path().join("ill"), directory.path().join("id"));
    let check = format!(
        "exec=test ! -e {} || {{ echo $$ > {}; exit 1; }}",
        ill.display(),
        id.display()
    );
    let process = place.start(&register(&["--check", &check, "--unhealthy-after", "1"]));
    until_there_are(1, &mut watch).await;
    cluster.pause(0).expect("it runs");
    fs::write(&ill, "").expect("a file");
    until_gone(&id).await;
    let ended = ask_again_and_again(&process).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = ended.stderr.join("\n");
    assert!(!said.contains("is left to its lease"), "{said}");
    assert!(said.contains("until its lease ends"), "{said}");
}
