//! An intent is a file that outlives its writer, and that people may write.

use std::fs;

use registry::{Intent, Intents, Status, Store};

use super::File;
use crate::{
    fixture::{id, service},
    intent_follower::IntentFollower,
};

fn drained(name: &str) -> Intents {
    let intent = Intent::from(Status::Draining);
    [(id(name), intent)].into_iter().collect()
}

#[tokio::test]
async fn an_intent_outlives_who_wrote_it() {
    let registry = File::new();
    let greeter = service("shop/greeter");
    let written = registry
        .store()
        .set_intent(&greeter, &id("[::1]:7"), Status::Draining.into())
        .await;
    written.expect("it is written");
    let text = fs::read_to_string(registry.intent("shop%2Fgreeter", "[::1]:7"));
    assert_eq!(text.expect("its file"), r#"{"v":1,"status":"draining"}"#);
    let read = registry.store().list_intents(&greeter).await;
    assert_eq!(read.expect("an answer"), drained("[::1]:7"));
}

#[tokio::test]
async fn an_intent_that_somebody_writes_or_removes_by_hand_is_followed() {
    let registry = File::new();
    let mut follower = IntentFollower::start(&registry.store(), "greeter");
    assert!(follower.next().await.is_empty());
    let file = registry.intent("greeter", "a");
    fs::write(&file, "{\"v\": 1, \"status\": \"draining\"}\n").expect("a file");
    follower.until(&drained("a")).await;
    fs::remove_file(file).expect("it is there");
    assert!(follower.next().await.is_empty());
}

#[tokio::test]
async fn intents_are_followed_when_the_directory_is_taken_away_and_made_again() {
    let registry = File::new();
    let (operator, greeter) = (registry.store(), service("greeter"));
    let mut follower = IntentFollower::start(&registry.store(), "greeter");
    assert!(follower.next().await.is_empty());
    for name in ["a", "b", "c"] {
        let intent = Status::Draining.into();
        let written = operator.set_intent(&greeter, &id(name), intent).await;
        written.expect("it is written");
        assert_eq!(follower.next().await, drained(name));
        // Moved first: a follower makes it again while it is being removed.
        let gone = registry.0.path().join("gone");
        fs::rename(registry.root(), &gone).expect("it is there");
        fs::remove_dir_all(gone).expect("it is there");
        assert!(follower.next().await.is_empty());
    }
}

#[tokio::test]
async fn what_a_killed_writer_left_is_removed_by_the_next_one() {
    let registry = File::new();
    let (store, greeter) = (registry.store(), service("greeter"));
    let mut left = registry.intent("greeter", "a");
    left.set_file_name(".0123456789abcdef.tmp");
    fs::create_dir_all(left.parent().expect("a directory")).expect("a directory");
    fs::write(&left, "half").expect("a file");
    let read = store.list_intents(&greeter).await;
    assert!(read.expect("an answer").is_empty());
    let intent = Status::Draining.into();
    let written = store.set_intent(&greeter, &id("a"), intent).await;
    written.expect("it is written");
    assert!(!left.exists());
    let read = store.list_intents(&greeter).await;
    assert_eq!(read.expect("an answer"), drained("a"));
    assert_eq!(store.undecodable(), 0);
}

#[tokio::test]
async fn what_is_no_file_is_skipped_and_counted() {
    let registry = File::new();
    let (store, greeter) = (registry.store(), service("greeter"));
    fs::create_dir_all(registry.intent("greeter", "a")).expect("a directory");
    std::os::unix::fs::symlink("/etc/passwd", registry.intent("greeter", "b")).expect("a link");
    let intent = Status::Draining.into();
    let written = store.set_intent(&greeter, &id("c"), intent).await;
    written.expect("it is written");
    for _ in 0..2 {
        let read = store.list_intents(&greeter).await;
        assert_eq!(read.expect("an answer"), drained("c"));
    }
    assert_eq!(store.undecodable(), 2);
    let intent = Status::Draining.into();
    let written = store.set_intent(&greeter, &id("a"), intent).await;
    let error = registry::one_line(&written.expect_err("it is a directory"));
    assert!(error.contains("intent for a of greeter"), "{error}");
}
