//! A document is a file that outlives its writer, and that people may write.

use std::fs;

use registry::Store;

use super::File;
use crate::{
    document_follower::DocumentFollower,
    fixture::{document, service},
};

#[tokio::test]
async fn a_document_outlives_who_wrote_it() {
    let registry = File::new();
    let greeter = service("shop/greeter");
    let written = registry
        .store()
        .set_document(&greeter, document("kept"))
        .await;
    written.expect("it is written");
    let text = fs::read_to_string(registry.document("shop%2Fgreeter"));
    assert_eq!(text.expect("its file"), "kept");
    let read = registry.store().read_document(&greeter).await;
    assert_eq!(read.expect("an answer"), Some(document("kept")));
}

#[tokio::test]
async fn a_document_that_somebody_writes_or_removes_by_hand_is_followed() {
    let registry = File::new();
    let mut follower = DocumentFollower::start(&registry.store(), "greeter");
    assert_eq!(follower.next().await, None);
    fs::write(registry.document("greeter"), "by hand").expect("a file");
    // It may be seen before all of it is there.
    while follower.next().await != Some(document("by hand")) {}
    fs::remove_file(registry.document("greeter")).expect("it is there");
    assert_eq!(follower.next().await, None);
}

#[tokio::test]
async fn a_document_is_followed_when_its_directory_is_taken_away_and_made_again() {
    let registry = File::new();
    let (owner, greeter) = (registry.store(), service("greeter"));
    let mut follower = DocumentFollower::start(&registry.store(), "greeter");
    assert_eq!(follower.next().await, None);
    for text in ["a", "b", "c"] {
        let written = owner.set_document(&greeter, document(text)).await;
        written.expect("it is written");
        assert_eq!(follower.next().await, Some(document(text)));
        // Moved first: a follower makes it again while it is being removed.
        let gone = registry.0.path().join("gone");
        fs::rename(registry.root(), &gone).expect("it is there");
        fs::remove_dir_all(gone).expect("it is there");
        assert_eq!(follower.next().await, None);
    }
}

#[tokio::test]
async fn what_a_killed_writer_left_is_removed_by_the_next_one() {
    let registry = File::new();
    let greeter = service("greeter");
    let left = registry.document("greeter");
    let left = left.with_file_name(".0123456789abcdef.tmp");
    let odd = service(".0123456789abcdef.tmp");
    let store = registry.store();
    let written = store.set_document(&odd, document("odd")).await;
    written.expect("it is written");
    fs::write(&left, "half").expect("a file");
    let read = registry.store().read_document(&greeter).await;
    assert_eq!(read.expect("an answer"), None);
    let written = registry
        .store()
        .set_document(&greeter, document("whole"))
        .await;
    written.expect("it is written");
    assert!(!left.exists());
    let kept = store.read_document(&odd).await.expect("an answer");
    assert_eq!(kept, Some(document("odd")));
}

#[tokio::test]
async fn what_is_no_file_is_an_error_and_ends_a_watch() {
    let registry = File::new();
    let store = registry.store();
    fs::create_dir_all(registry.document("greeter")).expect("a directory");
    let greeter = service("greeter");
    let read = store.read_document(&greeter).await;
    let error = registry::one_line(&read.expect_err("it is a directory"));
    assert!(error.contains("greeter.json is no regular file"), "{error}");
    let mut watch = store.watch_document(&greeter);
    let mut next = async || futures_util::StreamExt::next(&mut watch).await;
    next().await.expect("an item").expect_err("a directory");
    assert!(next().await.is_none(), "it ends with its error");
    let written = store.set_document(&greeter, document("{}")).await;
    written.expect_err("it is a directory");
    let left = fs::read_dir(registry.root().join("_service_config")).expect("it is there");
    let left: Vec<_> = left
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left.len(), 2, "the directory and the lock: {left:?}");
}
