//! Registrations and watches over a directory that people and crashes meddle with.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use registry::{
    Address, Document, Freshness, Instance, Registration, RegistrationState, Registry, ServiceName,
    Snapshot, SnapshotWatch, backend::file::FileStore,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(10);

fn greeter() -> ServiceName {
    ServiceName::new("greeter").expect("a name")
}

fn instance(port: u16) -> Instance {
    let address = Address::new(&format!("10.0.0.1:{port}")).expect("an address");
    Instance::new(greeter(), address)
}

/// A directory, and a process's registry in it.
fn registry(directory: &Path) -> Registry {
    FileStore::open(directory).expect("a store").into()
}

fn directory() -> (TempDir, PathBuf) {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let root = temporary.path().join("discovery");
    (temporary, root)
}

async fn until_seen(watch: &mut SnapshotWatch, wanted: impl Fn(&Snapshot) -> bool) {
    let seen = async {
        loop {
            let view = watch.view();
            if view.snapshot.as_ref().is_some_and(&wanted) {
                return;
            }
            watch.changed().await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    seen.unwrap_or_else(|_| panic!("still {:?}", watch.view()));
}

async fn until_state(
    registration: &Registration,
    wanted: impl Fn(&RegistrationState) -> bool,
) -> RegistrationState {
    let mut states = registration.states();
    let reached = tokio::time::timeout(PATIENCE, states.wait_for(wanted)).await;
    let state = reached.unwrap_or_else(|_| panic!("still {:?}", registration.state()));
    state.expect("the registration goes on").clone()
}

fn is_held(state: &RegistrationState) -> bool {
    matches!(state, RegistrationState::Held { .. })
}

#[tokio::test]
async fn a_registration_whose_file_is_deleted_is_held_again() {
    let (_temporary, root) = directory();
    let (server, client) = (registry(&root), registry(&root));
    let mut watch = client.watch(&greeter());
    let registration = server.register(instance(1), TTL);
    until_seen(&mut watch, |all| all.len() == 1).await;
    let mut first = until_state(&registration, is_held).await;
    for _ in 0..3 {
        fs::remove_file(root.join("greeter/10.0.0.1:1.json")).expect("it is there");
        let again = |state: &RegistrationState| is_held(state) && *state != first;
        first = until_state(&registration, again).await;
        until_seen(&mut watch, |all| all.len() == 1).await;
    }
    registration.deregister().await.expect("it is ours");
    until_seen(&mut watch, Snapshot::is_empty).await;
    assert_eq!(watch.view().freshness, Freshness::Live);
    assert!(!root.join("greeter/10.0.0.1:1.json").exists());
}

#[tokio::test]
async fn a_file_that_nobody_stands_behind_supersedes_nobody() {
    let (temporary, root) = directory();
    let (server, client) = (registry(&root), registry(&root));
    let registration = server.register(instance(1), TTL);
    let mut held = until_state(&registration, is_held).await;
    let ours = registration.instance().incarnation;
    // A backup that was restored, and what somebody has written by hand.
    for record in [
        r#"{"v":1,"addresses":["10.0.0.1:1"],"incarnation":"00000000000000ff"}"#,
        r#"{"v":1,"addresses":["10.0.0.1:1"]}"#,
        "no instance",
    ] {
        let beside = temporary.path().join("beside");
        fs::write(&beside, record).expect("a file");
        fs::rename(beside, root.join("greeter/10.0.0.1:1.json")).expect("a file");
        let again = |state: &RegistrationState| is_held(state) && *state != held;
        held = until_state(&registration, again).await;
        let listed = client.list(&greeter()).await.expect("a list");
        let listed: Vec<_> = listed.instances().map(|seen| seen.incarnation).collect();
        assert_eq!(listed, [ours]);
    }
}

#[tokio::test]
async fn a_registry_that_is_wiped_is_filled_again_by_those_who_live() {
    let (temporary, root) = directory();
    let (server, client) = (registry(&root), registry(&root));
    let mut watch = client.watch(&greeter());
    let registrations: Vec<_> = (1..=5)
        .map(|port| server.register(instance(port), TTL))
        .collect();
    until_seen(&mut watch, |all| all.len() == 5).await;
    let mut held = Vec::new();
    for registration in &registrations {
        held.push(until_state(registration, is_held).await);
    }
    // Moved first: it is filled again while it is being emptied.
    let gone = temporary.path().join("gone");
    fs::rename(&root, &gone).expect("it is there");
    fs::remove_dir_all(gone).expect("it is there");
    for (registration, before) in registrations.iter().zip(held) {
        let again = |state: &RegistrationState| is_held(state) && *state != before;
        until_state(registration, again).await;
    }
    let listed = client.list(&greeter()).await.expect("a list");
    assert_eq!(listed.len(), 5);
    until_seen(&mut watch, |all| all.len() == 5).await;
}

/// Removes a directory while others put into it: until there was a moment without it.
async fn remove(directory: &Path) {
    let removed = async {
        while let Err(error) = fs::remove_dir_all(directory) {
            if error.kind() == io::ErrorKind::NotFound {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let removed = tokio::time::timeout(PATIENCE, removed).await;
    removed.expect("it is empty for a moment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_removed_under_way_again_and_again_is_filled_each_time() {
    let (_temporary, root) = directory();
    let client = registry(&root);
    let servers: Vec<_> = (1..=4).map(|_| registry(&root)).collect();
    let mut watch = client.watch(&greeter());
    let ports = 1..=12;
    let registrations: Vec<_> = ports
        .zip(servers.iter().cycle())
        .map(|(port, server)| server.register(instance(port), TTL))
        .collect();
    until_seen(&mut watch, |all| all.len() == 12).await;
    for round in 1..=6 {
        // The whole registry, and what is in it of one service.
        let removed = if round % 2 == 0 {
            root.clone()
        } else {
            root.join("greeter")
        };
        remove(&removed).await;
        for registration in &registrations {
            let file = format!("greeter/{}.json", registration.instance().id);
            let file = root.join(file);
            testkit::eventually(PATIENCE, "its file", async || file.exists()).await;
            until_state(registration, is_held).await;
        }
        until_seen(&mut watch, |all| all.len() == 12).await;
        let document = Document::new(&round.to_string()).expect("a document");
        let set = client.set_document(&greeter(), document.clone()).await;
        set.expect("there is a place for it");
        let mut followed = servers[0].document(&greeter());
        let seen = async {
            while followed.view().document.as_ref() != Some(&document) {
                followed.changed().await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        seen.unwrap_or_else(|_| panic!("still {:?}", followed.view()));
    }
    let listed = client.list(&greeter()).await.expect("a list");
    assert_eq!(listed.len(), 12);
}

#[tokio::test]
async fn of_two_processes_at_one_address_the_later_has_it() {
    let (_temporary, root) = directory();
    let (server, client) = (registry(&root), registry(&root));
    let earlier = server.register(instance(1), TTL);
    until_state(&earlier, is_held).await;
    let later = registry(&root).register(instance(1), TTL);
    let superseded = |state: &_| matches!(state, RegistrationState::Superseded { .. });
    let state = until_state(&earlier, superseded).await;
    let holder = later.instance().incarnation.expect("it has one");
    let RegistrationState::Superseded { holder: told } = state else {
        unreachable!("it was waited for");
    };
    assert!(told.contains(&holder.to_string()), "{told}");
    until_state(&later, is_held).await;
    earlier.deregister().await.expect("nothing is left to do");
    let listed = client.list(&greeter()).await.expect("a list");
    let incarnations: Vec<_> = listed.instances().map(|i| i.incarnation).collect();
    assert_eq!(incarnations, [Some(holder)]);
}
