//! Processes that die in the middle of a write: between the file beside the place and its name.

use std::{env, fs, path::PathBuf, time::Duration};

use registry::{Intent, Snapshot, Store, Weight, backend::file::FileStore};
use testkit::{Signal, process::Process};
use tokio::time::sleep;

use super::{
    File,
    process::{again, given_root},
};
use crate::{
    fixture::{PATIENCE, document, hold, id, instance, listed, service},
    follower::Follower,
};

const WHAT: &str = "REGISTRY_TEST_WRITES";
/// How often a death has to have come between the two, and in how many tries.
const ENOUGH: usize = 3;
const TRIES: usize = 500;

/// Whole only when it has all of its length, and one letter.
const LENGTH: usize = 32 * 1024;

fn text(letter: char) -> String {
    letter.to_string().repeat(LENGTH)
}

fn is_whole(text: &str) -> bool {
    let first = text.chars().next();
    text.len() == LENGTH && text.chars().all(|letter| Some(letter) == first)
}

fn intent(weight: u32) -> Intent {
    Weight::new(weight).expect("a weight").into()
}

/// Writes one thing again and again until it is killed.
async fn write(root: PathBuf) {
    let store = FileStore::open(root).expect("a store");
    let (greeter, a) = (service("greeter"), id("a"));
    let mut ours = instance("greeter", 1).with_label("large", text('a'));
    let mut held = hold(&store, &ours).await;
    let what = env::var(WHAT).expect("what to write");
    for round in 1.. {
        let weight = round % 1_000 + 1;
        match what.as_str() {
            "instance" => {
                ours = ours.with_weight(Weight::new(weight).expect("a weight"));
                held.update(ours.clone()).await.expect("it is ours");
            }
            "document" => {
                let letter = if round % 2 == 0 { 'a' } else { 'b' };
                let set = store.set_document(&greeter, document(&text(letter)));
                set.await.expect("it is written");
            }
            _ => {
                let set = store.set_intent(&greeter, &a, intent(weight)).await;
                set.expect("it is written");
            }
        }
        if round == 1 {
            println!("\nwriting");
        }
    }
}

fn unfinished(directory: &PathBuf) -> usize {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").path());
    names
        .filter(|path| path.extension().is_some_and(|end| end == "tmp"))
        .count()
}

/// Kills writers of `what` until enough have left something unfinished in `directory`. Each time what is read is whole, or not
/// there, and the next writer has removed what the one before it left.
async fn kill_writers(test: &str, what: &str, directory: &str) {
    let registry = File::new();
    let (store, greeter) = (registry.store(), service("greeter"));
    let mut follower = Follower::start(&store, "greeter").await;
    let directory = registry.root().join(directory);
    let mut left = 0;
    let mut tries = 0;
    while left < ENOUGH {
        tries += 1;
        assert!(tries <= TRIES, "{left} of {TRIES} were killed in between");
        let mut command = again(test, &registry);
        command.env(WHAT, what);
        let writer = Process::spawn("writer", command).expect("it starts");
        let writing = writer.wait_for_line("writing", PATIENCE).await;
        writing.expect("it writes");
        sleep(Duration::from_micros(fastrand::u64(..5_000))).await;
        writer.signal(Signal::SIGKILL).expect("it lives");
        writer.ended().await.expect("it was killed");
        follower.until(Snapshot::is_empty).await;
        let found = unfinished(&directory);
        assert!(
            found <= 1,
            "the next writer removes what the one before it left"
        );
        left += found;

        assert!(listed(&store, "greeter").await.is_empty());
        let read = store.read_document(&greeter).await.expect("an answer");
        assert!(read.is_none_or(|document| is_whole(document.as_str())));
        store.list_intents(&greeter).await.expect("an answer");
        assert_eq!(store.undecodable(), 0, "all that has a name is whole");
    }
    println!("{left} of {tries} writers of the {what} were killed between file and name");

    let next = registry.store();
    let _hold = hold(&next, &instance("greeter", 1)).await;
    let set = next.set_document(&greeter, document(&text('c'))).await;
    set.expect("it is written");
    let set = next.set_intent(&greeter, &id("a"), intent(1)).await;
    set.expect("it is written");
    assert_eq!(unfinished(&directory), 0);
}

#[tokio::test]
async fn an_owner_killed_before_its_file_has_a_name_is_dead_and_nothing_more() {
    const THIS: &str = "backend::file::crashes::an_owner_killed_before_its_file_has_a_name_is_dead_and_nothing_more";
    match given_root() {
        Some(root) => write(root).await,
        None => kill_writers(THIS, "instance", "greeter").await,
    }
}

#[tokio::test]
async fn a_document_whose_writer_is_killed_is_as_it_was() {
    const THIS: &str = "backend::file::crashes::a_document_whose_writer_is_killed_is_as_it_was";
    match given_root() {
        Some(root) => write(root).await,
        None => kill_writers(THIS, "document", "_service_config").await,
    }
}

#[tokio::test]
async fn an_intent_whose_writer_is_killed_is_as_it_was() {
    const THIS: &str = "backend::file::crashes::an_intent_whose_writer_is_killed_is_as_it_was";
    match given_root() {
        Some(root) => write(root).await,
        None => kill_writers(THIS, "intent", "_intent/greeter").await,
    }
}
