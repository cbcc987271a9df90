//! Files that no owner of ours wrote.

use std::{
    fs::{self, File as StdFile},
    os::unix::fs::symlink,
};

use registry::{Loss, Store};

use super::File;
use crate::{
    fixture::{hold, id, instance, listed, soon},
    follower::Follower,
};

const RECORD: &str = r#"{"v":1,"addresses":["10.0.0.1:9"],"added in a later version":[]}"#;

#[tokio::test]
async fn undecodable_files_are_skipped_and_counted_once_per_revision() {
    let registry = File::new();
    let store = registry.store();
    let _hold = hold(&store, &instance("greeter", 1)).await;
    let directory = registry.root().join("greeter");
    let bad = [
        ("garbage.json", "not JSON".to_owned()),
        ("no-address.json", r#"{"v":1}"#.into()),
        ("another-id.json", RECORD.into()),
        ("_reserved.json", RECORD.into()),
        ("large.json", " ".repeat(2_000_000)),
    ];
    for (name, text) in &bad {
        fs::write(directory.join(name), text).expect("a file");
    }
    fs::create_dir(directory.join("directory.json")).expect("a directory");
    symlink(registry.record(1), directory.join("link.json")).expect("a link");
    fs::write(directory.join("no-record"), "").expect("a file");

    let reader = registry.store();
    for _ in 0..3 {
        assert_eq!(listed(&reader, "greeter").await, ["10.0.0.1:1"]);
    }
    assert_eq!(reader.undecodable(), bad.len() as u64 + 2);
    let mut follower = Follower::start(&reader, "greeter").await;
    fs::write(directory.join("new"), "still not JSON").expect("a file");
    fs::rename(directory.join("new"), directory.join("garbage.json")).expect("a file");
    let second = instance("greeter", 2);
    let _second_hold = hold(&store, &second).await;
    follower.until(|all| all.len() == 2).await;
    assert_eq!(listed(&reader, "greeter").await.len(), 2);
    assert_eq!(reader.undecodable(), bad.len() as u64 + 3);
}

#[tokio::test]
async fn a_file_is_an_instance_for_as_long_as_somebody_has_it_locked() {
    let registry = File::new();
    let store = registry.store();
    let mut follower = Follower::start(&store, "greeter").await;
    fs::write(registry.record(9), RECORD).expect("a file");
    assert!(listed(&store, "greeter").await.is_empty(), "nobody has it");
    let locked = StdFile::options().append(true).open(registry.record(9));
    let locked = locked.expect("the file");
    // The follower may be looking, for which it has the file locked too.
    locked.lock().expect("it is free in a moment");
    follower
        .until(|all| all.get(&id("10.0.0.1:9")).is_some())
        .await;
    drop(locked);
    follower.until_exactly(&[]).await;
}

#[tokio::test]
async fn a_lock_that_is_dropped_without_a_word_is_noticed() {
    let registry = File::new();
    let store = registry.store();
    let mut follower = Follower::start(&store, "greeter").await;
    fs::write(registry.record(9), "").expect("a file");
    // The kernel tells of the end of no descriptor that could not write.
    let locked = StdFile::open(registry.record(9)).expect("the file");
    locked.lock().expect("it is free in a moment");
    fs::write(registry.record(9), RECORD).expect("a file");
    follower.until(|all| all.len() == 1).await;
    drop(locked);
    follower.until_exactly(&[]).await;
}

#[tokio::test]
async fn an_owner_whose_file_is_deleted_or_replaced_by_hand_is_told() {
    let registry = File::new();
    let store = registry.store();
    let mut deleted = hold(&store, &instance("greeter", 1)).await;
    let mut replaced = hold(&store, &instance("greeter", 9)).await;
    fs::remove_file(registry.record(1)).expect("it is there");
    let loss = soon("the loss", deleted.lost()).await;
    assert!(matches!(loss, Loss::Deleted(_)), "{loss:?}");
    let by_hand = registry.root().join("by-hand");
    fs::write(&by_hand, RECORD).expect("a file");
    fs::rename(by_hand, registry.record(9)).expect("a file");
    let loss = soon("the loss", replaced.lost()).await;
    assert!(matches!(loss, Loss::Gone(_)), "{loss:?}");
    assert!(replaced.update(instance("greeter", 9)).await.is_err());
    replaced.release().await.expect("nothing is left to do");
    assert!(registry.record(9).exists(), "it is not ours to remove");
}

#[tokio::test]
async fn a_file_where_a_service_s_directory_would_be_hides_no_other_service() {
    let registry = File::new();
    let store = registry.store();
    let _hold = hold(&store, &instance("greeter", 1)).await;
    fs::write(registry.root().join("README"), "for whoever comes here").expect("a file");
    let services = store.services().await.expect("the services");
    assert_eq!(services, [crate::fixture::service("greeter")]);
}
