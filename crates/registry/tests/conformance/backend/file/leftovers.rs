//! What a process that dies leaves behind, and who removes it.

use std::{fs, path::Path};

use registry::Store;

use super::File;
use crate::{
    fixture::{hold, instance, listed},
    follower::Follower,
};

/// The names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A registry with a live instance, 10.0.0.1:1, and what a crash leaves: a record that nobody has locked and one that was
/// never finished.
fn leave(registry: &File) {
    let record = r#"{"v":1,"addresses":["10.0.0.1:9"]}"#;
    fs::write(registry.record(9), record).expect("a file");
    let unfinished = registry.root().join("greeter/.0123456789abcdef.tmp");
    fs::write(unfinished, &record[..9]).expect("a file");
}

#[tokio::test]
async fn the_next_owner_removes_what_a_crash_left() {
    let registry = File::new();
    let store = registry.store();
    let _first = hold(&store, &instance("greeter", 1)).await;
    leave(&registry);
    // A store cleans once, so this is the next process's.
    let _next = hold(&registry.store(), &instance("greeter", 2)).await;
    let wanted = [".lock", "10.0.0.1:1.json", "10.0.0.1:2.json"];
    assert_eq!(names(&registry.root().join("greeter")), wanted);
    assert_eq!(
        listed(&store, "greeter").await,
        ["10.0.0.1:1", "10.0.0.1:2"]
    );
}

#[tokio::test]
async fn an_owner_of_the_same_id_replaces_what_a_crash_left() {
    let registry = File::new();
    let store = registry.store();
    let _first = hold(&store, &instance("greeter", 1)).await;
    leave(&registry);
    assert_eq!(listed(&store, "greeter").await, ["10.0.0.1:1"]);
    let restarted = instance("greeter", 9);
    let mut follower = Follower::start(&store, "greeter").await;
    let _hold = hold(&store, &restarted).await;
    follower
        .until(|all| {
            all.get(&restarted.id)
                .is_some_and(|seen| **seen == restarted)
        })
        .await;
}

#[tokio::test]
async fn a_reader_removes_nothing() {
    let registry = File::new();
    let store = registry.store();
    let _first = hold(&store, &instance("greeter", 1)).await;
    leave(&registry);
    let before = names(&registry.root().join("greeter"));
    let reader = registry.store();
    assert_eq!(listed(&reader, "greeter").await, ["10.0.0.1:1"]);
    let follower = Follower::start(&reader, "greeter").await;
    assert_eq!(follower.snapshot().len(), 1);
    assert_eq!(reader.services().await.expect("services").len(), 1);
    assert_eq!(names(&registry.root().join("greeter")), before);
}

#[tokio::test]
async fn a_hold_dropped_while_the_directory_is_locked_is_gone_all_the_same() {
    let registry = File::new();
    let store = registry.store();
    let held = hold(&store, &instance("greeter", 1)).await;
    let mut follower = Follower::start(&store, "greeter").await;
    let lock = fs::File::open(registry.root().join("greeter/.lock")).expect("the lock");
    lock.lock().expect("it is free in a moment");
    drop(held);
    follower.until_exactly(&[]).await;
    assert!(registry.record(1).exists(), "it may not be unlinked");
    drop(lock);
    let _next = hold(&registry.store(), &instance("greeter", 2)).await;
    assert!(!registry.record(1).exists(), "it is left to the next owner");
}
