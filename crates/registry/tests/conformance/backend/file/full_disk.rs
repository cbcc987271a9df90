//! No room is left: nothing is lost, it is told, and all goes on when there is room again.

use std::{
    fs::{self, File as StdFile},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::{
    libc::RLIM_INFINITY,
    sys::resource::{Resource, setrlimit},
};
use registry::{
    Claim, Intent, Registration, RegistrationState, Registry, Status, Store, StoreError, Weight,
    backend::file::FileStore, one_line,
};

use super::{
    File,
    process::{after, again, given_root, succeed},
};
use crate::fixture::{document, hold, id, instance, listed, request, service, soon};

const LIMITED: &str = "backend::file::full_disk::a_process_that_may_write_no_more_loses_nothing";
const SMALL: &str = "backend::file::full_disk::a_full_file_system_loses_nothing";

/// A file system of 128 KiB on the registry's directory, which nobody else sees; no right is needed for it but to have a
/// namespace of users.
const ON_A_SMALL_DISK: &str = "exec unshare --user --map-root-user --mount sh -c \
    'mount -t tmpfs -o size=128k,mode=700 small \"$ROOT\" && exec \"$@\"' sh \"$@\"";

/// What can be full.
enum Disk {
    /// What this process may write to a file: nothing.
    Limited,
    /// A file system, by a file that takes what is left of it.
    Small { ballast: PathBuf },
}

impl Disk {
    fn fill(&self) {
        match self {
            Self::Limited => setrlimit(Resource::RLIMIT_FSIZE, 0, RLIM_INFINITY).expect("lower"),
            Self::Small { ballast } => {
                let mut ballast = StdFile::create(ballast).expect("a file");
                let full = loop {
                    if let Err(error) = ballast.write_all(&[0; 1024]) {
                        break error;
                    }
                };
                assert_eq!(full.kind(), io::ErrorKind::StorageFull);
            }
        }
    }

    fn free(&self) {
        match self {
            Self::Limited => setrlimit(Resource::RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY)
                .expect("back to what it was"),
            Self::Small { ballast } => fs::remove_file(ballast).expect("it is there"),
        }
    }
}

/// That a step has failed for want of room, and says where.
fn is_told<T>(outcome: Result<T, StoreError>, root: &Path) {
    let message = one_line(&outcome.err().expect("there is no room"));
    let root = root.to_string_lossy();
    assert!(
        message.contains("no room is left") && message.contains(&*root),
        "{message}"
    );
}

/// No file that was begun is left in any of the registry's directories.
fn nothing_is_left_unfinished(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let is_unfinished = path.extension().is_some_and(|end| end == "tmp");
        assert!(!is_unfinished, "{}", path.display());
        if path.is_dir() {
            nothing_is_left_unfinished(&path);
        }
    }
}

async fn until(registration: &Registration, wanted: impl Fn(&RegistrationState) -> bool) {
    let mut states = registration.states();
    let reached = soon("the state", states.wait_for(wanted)).await;
    drop(reached.expect("the registration goes on"));
}

async fn nothing_is_lost(root: &Path, disk: &Disk) {
    let store = FileStore::open(root).expect("a store");
    let (greeter, a) = (service("greeter"), id("a"));
    let (first, second) = (instance("greeter", 1), instance("greeter", 2));
    let mut first_hold = hold(&store, &first).await;
    let second_hold = hold(&store, &second).await;
    let drained = Intent::from(Status::Draining);
    let set = store.set_document(&greeter, document("kept")).await;
    set.expect("there is room");
    let set = store.set_intent(&greeter, &a, drained.clone()).await;
    set.expect("there is room");

    disk.fill();
    let heavier = first.clone().with_weight(Weight::new(7).expect("a weight"));
    is_told(first_hold.update(heavier.clone()).await, root);
    let third = instance("greeter", 3);
    is_told(store.hold(request(&third, Claim::First)).await, root);
    is_told(store.set_document(&greeter, document("new")).await, root);
    let serving = Intent::from(Status::Serving);
    is_told(store.set_intent(&greeter, &a, serving).await, root);
    let registration = Registry::from(store.clone()).register(third, Duration::from_secs(2));
    until(&registration, |state| {
        matches!(state, RegistrationState::Retrying { cause, .. } if cause.contains("no room"))
    })
    .await;

    let seen = store.list(&greeter).await.expect("a list");
    assert_eq!(**seen.get(&first.id).expect("it stays"), first);
    let kept = store.read_document(&greeter).await.expect("an answer");
    assert_eq!(kept, Some(document("kept")));
    let intents = store.list_intents(&greeter).await.expect("an answer");
    assert_eq!(intents, [(a.clone(), drained)].into_iter().collect());
    nothing_is_left_unfinished(root);
    second_hold.release().await.expect("no room is needed");
    store.delete_intent(&greeter, &a).await.expect("nor here");
    assert_eq!(listed(&store, "greeter").await, ["10.0.0.1:1"]);

    disk.free();
    until(&registration, |state| {
        matches!(state, RegistrationState::Held { .. })
    })
    .await;
    first_hold
        .update(heavier.clone())
        .await
        .expect("it is ours");
    let seen = store.list(&greeter).await.expect("a list");
    assert_eq!(**seen.get(&first.id).expect("it is there"), heavier);
    assert_eq!(seen.len(), 2);
    let set = store.set_document(&greeter, document("new")).await;
    set.expect("there is room");
}

#[tokio::test]
async fn a_process_that_may_write_no_more_loses_nothing() {
    if let Some(root) = given_root() {
        return nothing_is_lost(&root, &Disk::Limited).await;
    }
    let registry = File::new();
    // By default a process that writes more than it may is killed.
    let script = "trap '' XFSZ; exec \"$@\"";
    let command = after(script, &again(LIMITED, &registry), &registry);
    succeed("limited", command).await;
}

#[tokio::test]
async fn a_full_file_system_loses_nothing() {
    if let Some(root) = given_root() {
        let ballast = root.join("ballast");
        return nothing_is_lost(&root, &Disk::Small { ballast }).await;
    }
    let registry = File::new();
    let _made = registry.store();
    let tried = after(ON_A_SMALL_DISK, &Command::new("true"), &registry).output();
    let tried = tried.expect("a shell");
    if !tried.status.success() {
        let why = String::from_utf8_lossy(&tried.stderr);
        println!(
            "no file system of our own can be made here, so only a limited process shows it: {why}"
        );
        let script = "trap '' XFSZ; exec \"$@\"";
        let command = after(script, &again(LIMITED, &registry), &registry);
        succeed("limited", command).await;
        return;
    }
    let command = after(ON_A_SMALL_DISK, &again(SMALL, &registry), &registry);
    succeed("small disk", command).await;
}
