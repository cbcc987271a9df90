//! Several who write one thing at once.

use std::{fs::File as StdFile, path::Path, time::Duration};

use registry::{Document, RegistrationState, Registry, Store, backend::file::FileStore};
use testkit::{eventually, process::Process};

use super::{
    File,
    process::{again, given_root},
};
use crate::fixture::{PATIENCE, document, hold, id, instance, service};

const THIS: &str = "backend::file::writers::of_many_processes_that_claim_one_id_at_once_one_has_it_and_the_others_know";
const PROCESSES: usize = 8;

/// Registers 10.0.0.1:1, and says each time how that stands.
async fn claim(root: &Path) {
    let ours = instance("greeter", 1);
    let store = FileStore::open(root).expect("a store");
    let registration = Registry::from(store).register(ours, Duration::from_secs(10));
    let mut states = registration.states();
    loop {
        let said = match &*states.borrow_and_update() {
            RegistrationState::Held { holder, .. } => format!("held by {holder}"),
            RegistrationState::Superseded { .. } => "superseded".into(),
            other => format!("{other:?}"),
        };
        println!("\nstate: {said}");
        if states.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn state(process: &Process) -> Option<String> {
    let lines = process.output();
    let mut said = lines
        .iter()
        .rev()
        .filter_map(|line| line.text.strip_prefix("state: "));
    said.next().map(ToOwned::to_owned)
}

#[tokio::test]
async fn of_many_processes_that_claim_one_id_at_once_one_has_it_and_the_others_know() {
    if let Some(root) = given_root() {
        return claim(&root).await;
    }
    let registry = File::new();
    let store = registry.store();
    drop(hold(&store, &instance("greeter", 2)).await);
    let lock = StdFile::open(registry.root().join("greeter/.lock")).expect("the lock");
    // Another test may be starting a process just now, which has all our files until it executes its program.
    lock.lock().expect("it is free in a moment");
    let start = |_| Process::spawn("claimant", again(THIS, &registry)).expect("it starts");
    let processes: Vec<_> = (0..PROCESSES).map(start).collect();
    for process in &processes {
        let started = process.wait_for_line("state: ", PATIENCE).await;
        started.expect("it waits for the lock");
    }
    drop(lock);
    let mut holder = None;
    eventually(
        PATIENCE,
        "one that has it, and that the others know",
        async || {
            let states: Vec<_> = processes.iter().filter_map(state).collect();
            let superseded = states.iter().filter(|state| *state == "superseded");
            let others = superseded.count();
            holder = states
                .iter()
                .find_map(|state| state.strip_prefix("held by ").map(ToOwned::to_owned));
            others == PROCESSES - 1 && holder.is_some()
        },
    )
    .await;
    let listed = store.list(&service("greeter")).await.expect("a list");
    let listed: Vec<_> = listed
        .instances()
        .map(|i| i.incarnation.map(|i| i.to_string()))
        .collect();
    assert_eq!(listed, [holder]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_who_write_one_document_each_reads_a_whole_one_and_in_the_end_the_last() {
    let registry = File::new();
    let greeter = service("greeter");
    let whole = |letter: char| document(&letter.to_string().repeat(20_000));
    let first = registry.store().set_document(&greeter, whole('a')).await;
    first.expect("it is written");
    let mut writers = Vec::new();
    for letter in ['a', 'b', 'c', 'd'] {
        let (store, greeter) = (registry.store(), greeter.clone());
        writers.push(tokio::spawn(async move {
            for _ in 0..25 {
                let set = store.set_document(&greeter, whole(letter)).await;
                set.expect("it is written");
                let read = store.read_document(&greeter).await.expect("an answer");
                let read = read.expect("it is never gone");
                assert!(['a', 'b', 'c', 'd'].map(whole).contains(&read));
            }
        }));
    }
    for writer in writers {
        writer.await.expect("it has written");
    }
    let mut read: Vec<Option<Document>> = Vec::new();
    for store in [registry.store(), registry.store()] {
        read.push(store.read_document(&greeter).await.expect("an answer"));
    }
    assert_eq!(read[0], read[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_operators_at_one_service_lose_no_intent_of_one_another() {
    let registry = File::new();
    let greeter = service("greeter");
    let mut operators = Vec::new();
    for operator in 0..4 {
        let (store, greeter) = (registry.store(), greeter.clone());
        operators.push(tokio::spawn(async move {
            for number in 0..10 {
                let instance = id(&format!("{operator}-{number}"));
                let draining = registry::Status::Draining.into();
                let set = store.set_intent(&greeter, &instance, draining).await;
                set.expect("it is written");
                if number % 2 == 1 {
                    let deleted = store.delete_intent(&greeter, &instance).await;
                    deleted.expect("it is deleted");
                }
            }
        }));
    }
    for operator in operators {
        operator.await.expect("it has written");
    }
    let intents = registry.store().list_intents(&greeter).await;
    assert_eq!(intents.expect("an answer").iter().count(), 4 * 5);
}
