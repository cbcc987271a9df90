//! The directory itself: whose it is, and what happens when it is taken away.

use std::{
    fs::{self, DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use registry::{Claim, Hold, Instance, Loss, Revision, Store, backend::file::FileStore, one_line};

use super::File;
use crate::{
    fixture::{hold, instance, listed, request, service, soon},
    follower::Follower,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o7777
}

#[test]
fn a_new_directory_is_for_its_owner_alone() {
    let registry = File::new();
    registry.store();
    assert_eq!(mode(&registry.root()), 0o700);
}

#[test]
fn the_mode_of_a_directory_that_is_there_is_the_operator_s_choice() {
    let registry = File::new();
    let given = DirBuilder::new().mode(0o755).create(registry.root());
    given.expect("a directory");
    registry.store();
    assert_eq!(mode(&registry.root()), 0o755);
}

#[test]
fn a_directory_that_everybody_may_write_to_is_refused_by_name() {
    let registry = File::new();
    fs::create_dir(registry.root()).expect("a directory");
    fs::set_permissions(registry.root(), Permissions::from_mode(0o777)).expect("it is ours");
    let refused = FileStore::open(registry.root()).expect_err("anybody could forge an instance");
    let message = one_line(&refused);
    assert!(
        message.contains("discovery") && message.contains("chmod"),
        "{message}"
    );
}

#[test]
fn what_is_no_directory_is_refused_by_name() {
    let registry = File::new();
    fs::write(registry.root(), "").expect("a file");
    let refused = FileStore::open(registry.root()).expect_err("it is a file");
    let message = one_line(&refused);
    assert!(message.contains("discovery"), "{message}");
}

#[tokio::test]
async fn a_store_s_url_leads_to_its_directory() {
    let registry = File::new();
    let root = registry.root().join("50% of #1?");
    let store = FileStore::open(&root).expect("a store");
    let _hold = hold(&store, &instance("greeter", 1)).await;
    let same = registry::connect(store.url()).expect("a registry");
    let listed = same.list(&service("greeter")).await.expect("a list");
    assert_eq!((listed.len(), same.url()), (1, store.url()));
}

/// Holds again what was lost because somebody took the directory away.
async fn comes_back(store: &FileStore, mut held: Box<dyn Hold>, instance: &Instance) {
    let loss = soon("the loss", held.lost()).await;
    assert!(matches!(loss, Loss::Deleted(_)), "{loss:?}");
    drop(held);
    let mut follower = Follower::start(store, "greeter").await;
    let again = store
        .hold(request(instance, Claim::Again(Revision::default())))
        .await;
    let mut again = again.expect("nobody has it");
    follower.until_exactly(&[instance]).await;
    assert_eq!(listed(store, "greeter").await, ["10.0.0.1:1"]);
    again.update(instance.clone()).await.expect("it is held");
}

#[tokio::test]
async fn a_deleted_root_comes_back() {
    let registry = File::new();
    let store = registry.store();
    let greeter = instance("greeter", 1);
    let held = hold(&store, &greeter).await;
    let mut follower = Follower::start(&store, "greeter").await;
    follower.until_exactly(&[&greeter]).await;
    // Moved first: readers make the directory again while it is being emptied.
    let gone = registry.0.path().join("gone");
    fs::rename(registry.root(), &gone).expect("it is there");
    fs::remove_dir_all(gone).expect("it is there");
    follower.until_exactly(&[]).await;
    comes_back(&store, held, &greeter).await;
    assert_eq!(mode(&registry.root()), 0o700);
    let later = instance("greeter", 2);
    let _later_hold = hold(&store, &later).await;
    follower.until_exactly(&[&later]).await;
}

#[tokio::test]
async fn a_directory_that_was_moved_away_is_made_anew() {
    let registry = File::new();
    let store = registry.store();
    let greeter = instance("greeter", 1);
    let held = hold(&store, &greeter).await;
    let mut follower = Follower::start(&store, "greeter").await;
    follower.until_exactly(&[&greeter]).await;
    let (here, there) = (registry.root().join("greeter"), registry.root().join("x"));
    fs::rename(here, there).expect("it is there");
    follower.until_exactly(&[]).await;
    comes_back(&store, held, &greeter).await;
    let later = instance("greeter", 2);
    let _later_hold = hold(&store, &later).await;
    follower.until_exactly(&[&later]).await;
}

#[tokio::test]
async fn a_root_that_was_moved_away_is_made_anew() {
    let registry = File::new();
    let store = registry.store();
    let greeter = instance("greeter", 1);
    let held = hold(&store, &greeter).await;
    let mut follower = Follower::start(&store, "greeter").await;
    follower.until_exactly(&[&greeter]).await;
    // The kernel has no word for this: the watched directory itself stays as it is. Each second's look sees it.
    fs::rename(registry.root(), registry.0.path().join("x")).expect("it is there");
    follower.until_exactly(&[]).await;
    comes_back(&store, held, &greeter).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_never_given_back_is_waited_for_within_a_bound() {
    let registry = File::new();
    let store = registry.store();
    let _first = hold(&store, &instance("greeter", 1)).await;
    let lock = fs::File::open(registry.root().join("greeter/.lock")).expect("the lock");
    // Another test may be starting a process just now, which has all our files until it executes its program.
    lock.lock().expect("it is free in a moment");
    let second = instance("greeter", 2);
    let refused = store.hold(request(&second, Claim::First)).await;
    let message = one_line(&refused.err().expect("the lock is taken"));
    assert!(
        message.contains("cannot register 10.0.0.1:2") && message.contains("greeter/.lock"),
        "{message}"
    );
    drop(lock);
    tokio::time::resume();
    let _second = hold(&store, &second).await;
}

#[tokio::test]
async fn a_name_too_long_for_a_file_is_refused_and_not_lost() {
    let registry = File::new();
    let store = registry.store();
    let long = "a/".repeat(120) + "a";
    let refused = store.hold(request(&instance(&long, 1), Claim::First)).await;
    let message = one_line(&refused.err().expect("its directory's name is too long"));
    assert!(message.contains("cannot register"), "{message}");
    let refused = store.list(&service(&long)).await;
    assert!(refused.is_err(), "an error is not an empty list");
}
