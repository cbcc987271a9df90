//! A directory that a process may read, and not write to.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use nix::unistd::{Gid, Uid, geteuid, setresgid, setresuid};
use registry::{
    Claim, Registration, RegistrationState, Registry, Status, Store, StoreError,
    backend::file::FileStore, one_line,
};
use testkit::process::Process;

use super::{
    File,
    process::{again, given_root},
};
use crate::{
    document_follower::DocumentFollower,
    fixture::{PATIENCE, document, hold, id, instance, listed, request, service, soon},
    follower::Follower,
};

const THIS: &str =
    "backend::file::read_only::a_directory_that_is_read_only_is_read_and_refused_by_name";
/// A user that has nothing anywhere, for root to become: no mode keeps root from writing.
const NOBODY: u32 = 65_534;

fn allow(directory: &Path, mode: u32) {
    let mode = Permissions::from_mode(mode);
    fs::set_permissions(directory, mode).expect("it is ours");
}

/// That it says where nothing can be written, for whom, and what would do.
fn is_refused<T>(outcome: Result<T, StoreError>, root: &Path) {
    let message = one_line(&outcome.err().expect("it is read-only"));
    let (user, root) = (geteuid(), root.to_string_lossy());
    for wanted in [
        &format!("user {user} cannot write"),
        &*root,
        "file:///DIRECTORY",
    ] {
        assert!(message.contains(wanted), "{wanted:?} is not in: {message}");
    }
}

/// What another user sees, or the same one who may write no more.
async fn read(root: &Path) {
    if geteuid().is_root() {
        setresgid(
            Gid::from_raw(NOBODY),
            Gid::from_raw(NOBODY),
            Gid::from_raw(NOBODY),
        )
        .expect("root may");
        setresuid(
            Uid::from_raw(NOBODY),
            Uid::from_raw(NOBODY),
            Uid::from_raw(NOBODY),
        )
        .expect("root may");
    }
    let greeter = service("greeter");
    let store = FileStore::open(root).expect("it can be read");
    assert_eq!(listed(&store, "greeter").await, ["10.0.0.1:1"]);
    let mut follower = Follower::start(&store, "greeter").await;
    let unknown = Follower::start(&store, "unknown").await;
    assert!(unknown.snapshot().is_empty());
    let mut documents = DocumentFollower::start(&store, "greeter");
    assert_eq!(documents.next().await, Some(document("kept")));

    let ours = instance("greeter", 3);
    is_refused(store.hold(request(&ours, Claim::First)).await, root);
    let elsewhere = instance("elsewhere", 3);
    is_refused(store.hold(request(&elsewhere, Claim::First)).await, root);
    is_refused(store.set_document(&greeter, document("new")).await, root);
    is_refused(store.delete_document(&greeter).await, root);
    let draining = Status::Draining.into();
    is_refused(store.set_intent(&greeter, &id("a"), draining).await, root);
    let registration = Registry::from(store).register(ours, Duration::from_secs(10));
    is_retrying(&registration).await;
    println!("\nrefused");
    follower.until(|all| all.len() == 2).await;
    println!("\nfollowed");
}

async fn is_retrying(registration: &Registration) {
    let mut states = registration.states();
    let retrying = |state: &RegistrationState| matches!(state, RegistrationState::Retrying { cause, .. } if cause.contains("cannot write"));
    let reached = soon("the state", states.wait_for(retrying)).await;
    drop(reached.expect("the registration goes on"));
}

#[tokio::test]
async fn a_directory_that_is_read_only_is_read_and_refused_by_name() {
    if let Some(root) = given_root() {
        return read(&root).await;
    }
    let registry = File::new();
    let store = registry.store();
    let _first = hold(&store, &instance("greeter", 1)).await;
    let set = store
        .set_document(&service("greeter"), document("kept"))
        .await;
    set.expect("it is ours");
    let directories = [
        registry.root(),
        registry.root().join("greeter"),
        registry.root().join("_service_config"),
    ];
    allow(registry.0.path(), 0o755);
    for directory in &directories {
        allow(directory, 0o555);
    }
    let reader = Process::spawn("reader", again(THIS, &registry)).expect("it starts");
    let refused = reader.wait_for_line("refused", PATIENCE).await;
    refused.expect("it reads, and may not write");
    for directory in &directories {
        allow(directory, 0o755);
    }
    let _second = hold(&store, &instance("greeter", 2)).await;
    let followed = reader.wait_for_line("followed", PATIENCE).await;
    followed.expect("it sees what others write");
    let status = reader.wait(PATIENCE).await.expect("it ends");
    assert!(status.success(), "{}", reader.complaint("failed"));
}

#[test]
fn a_registry_that_cannot_be_made_is_refused_by_name() {
    // Nobody can make a directory there, not even root.
    let refused = FileStore::open("/proc/discovery").expect_err("it cannot be made");
    let message = one_line(&refused);
    let absent = io::Error::from_raw_os_error(nix::libc::ENOENT).to_string();
    assert!(
        message.contains("/proc/discovery") && message.contains(&absent),
        "{message}"
    );
}
