//! Owners are processes of their own here, and die. How soon that is seen is in `tests/file_deaths.rs`.

use std::{future::pending, path::Path};

use registry::{Loss, Update, Weight, backend::file::FileStore};
use testkit::{Signal, process::Process};

use super::{
    File,
    process::{again, given_root},
};
use crate::{
    fixture::{PATIENCE, hold, instance, listed, soon},
    follower::Follower,
};

const THIS: &str = "backend::file::deaths::a_later_process_takes_over_from_a_live_one";

/// Starts a process that holds 10.0.0.1:1 of `greeter`.
async fn owner(registry: &File) -> Process {
    let owner = Process::spawn("owner", again(THIS, registry)).expect("it starts");
    let held = owner.wait_for_line("held", PATIENCE).await;
    held.expect("it holds its instance");
    owner
}

async fn own(root: &Path) {
    let store = FileStore::open(root).expect("a file store");
    let _hold = hold(&store, &instance("greeter", 1)).await;
    println!("\nheld");
    pending::<()>().await;
}

#[tokio::test]
async fn a_later_process_takes_over_from_a_live_one() {
    if let Some(root) = given_root() {
        return own(&root).await;
    }
    let registry = File::new();
    let store = registry.store();
    let earlier = instance("greeter", 1);
    let mut earlier_hold = hold(&store, &earlier).await;
    let mut follower = Follower::start(&store, "greeter").await;
    follower.until_exactly(&[&earlier]).await;

    let later = owner(&registry).await;
    let loss = soon("the loss", earlier_hold.lost()).await;
    let seen = follower.next().await;
    let [Update::Upsert(seen)] = &seen.updates[..] else {
        panic!("one place changes hands: {seen:?}");
    };
    let incarnation = seen.incarnation.expect("it says who it is");
    assert_eq!(loss, Loss::Superseded(format!("incarnation {incarnation}")));

    drop(earlier_hold);
    assert_eq!(listed(&store, "greeter").await, ["10.0.0.1:1"]);
    later.signal(Signal::SIGKILL).expect("it lives");
    follower.until_exactly(&[]).await;
}

#[tokio::test]
async fn a_stopped_owner_is_not_a_dead_one() {
    let registry = File::new();
    let store = registry.store();
    let owner = owner(&registry).await;
    owner.signal(Signal::SIGSTOP).expect("it lives");
    assert_eq!(listed(&store, "greeter").await, ["10.0.0.1:1"]);
    let later = instance("greeter", 1);
    let _hold = hold(&store, &later).await;
    owner.signal(Signal::SIGKILL).expect("it lives");
    soon("its end", owner.ended()).await.expect("it has ended");
    let follower = Follower::start(&store, "greeter").await;
    let seen = follower.snapshot().get(&later.id).expect("it is there");
    assert_eq!(**seen, later, "a death removes nobody else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_changes_all_the_time_is_never_absent() {
    let registry = File::new();
    let (store, reader) = (registry.store(), registry.store());
    let mut greeter = instance("greeter", 1);
    let mut held = hold(&store, &greeter).await;
    let mut follower = Follower::start(&reader, "greeter").await;
    let listing = tokio::spawn(async move {
        loop {
            assert_eq!(listed(&reader, "greeter").await, ["10.0.0.1:1"]);
        }
    });
    for weight in 2..500 {
        greeter = greeter.with_weight(Weight::new(weight).expect("a weight"));
        held.update(greeter.clone()).await.expect("it is ours");
    }
    follower.until_exactly(&[&greeter]).await;
    let updates = follower.take_updates();
    assert!(
        !updates.iter().any(|u| matches!(u, Update::Remove(_))),
        "{updates:?}"
    );
    listing.abort();
    let ended = listing.await.expect_err("it never ends by itself");
    assert!(ended.is_cancelled(), "{ended}");
}
