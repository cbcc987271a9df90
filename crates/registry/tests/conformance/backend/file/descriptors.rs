//! A registration costs a descriptor, and a process has so many.

use std::{
    fs::File as StdFile,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use registry::{
    Claim, Freshness, Hold, Registration, RegistrationState, Registry, Snapshot, SnapshotWatch,
    Store, backend::file::FileStore, one_line,
};
use testkit::{Signal, process::Process};
use tokio::time::timeout;

use super::{
    File,
    process::{again, given_root, succeed},
};
use crate::{
    fixture::{PATIENCE, hold, instance, listed, request, service, soon},
    follower::Follower,
};

const FEW: &str = "backend::file::descriptors::a_process_without_descriptors_says_so_and_goes_on_when_it_has_some";
const MANY: &str =
    "backend::file::descriptors::a_thousand_instances_of_one_process_come_and_go_together";
const INSTANCES: u16 = 1_000;
const A_MOMENT: Duration = Duration::from_millis(10);

/// Allows this process that many open files.
fn allow(files: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    assert!(
        files <= hard,
        "a process may have {hard} files here, {files} are needed: raise ulimit -Hn"
    );
    setrlimit(Resource::RLIMIT_NOFILE, files, hard).expect("it is allowed");
}

/// Waits until it is in the registry, or has failed to get there: then why.
async fn outcome(registration: &Registration) -> Result<(), Arc<str>> {
    let mut states = registration.states();
    let is_known = |state: &RegistrationState| match state {
        RegistrationState::Retrying { attempts, .. } => *attempts > 0,
        _ => true,
    };
    let reached = soon("an outcome", states.wait_for(is_known)).await;
    match &*reached.expect("the registration goes on") {
        RegistrationState::Retrying { cause, .. } => Err(cause.clone()),
        _held => Ok(()),
    }
}

async fn until_held(registration: &Registration) {
    let mut states = registration.states();
    let held = states.wait_for(|state| matches!(state, RegistrationState::Held { .. }));
    drop(
        soon("a hold", held)
            .await
            .expect("the registration goes on"),
    );
}

/// Takes what descriptors there are. Whoever follows the directory uses one now and then, and gives it back.
fn take_all(taken: &mut Vec<StdFile>) {
    while let Ok(file) = StdFile::open("/dev/null") {
        taken.push(file);
    }
}

/// Holds instances until there is no descriptor left, and sees what that does to what is held and followed.
async fn run_out(root: &Path) {
    const LIMIT: u64 = 64;
    allow(LIMIT);
    let store = FileStore::open(root).expect("a store");
    let registry = Registry::from(store.clone());
    let mut watch = registry.watch(&service("greeter"));
    let is_live = async |watch: &mut SnapshotWatch| {
        while watch.view().freshness != Freshness::Live {
            watch.changed().await;
        }
    };
    soon("the first look", is_live(&mut watch)).await;
    let mut holds: Vec<Box<dyn Hold>> = Vec::new();
    let refused = loop {
        let next = u16::try_from(holds.len()).expect("few") + 1;
        let next = request(&instance("greeter", next), Claim::First);
        match store.hold(next).await {
            Ok(hold) => holds.push(hold),
            Err(error) => break one_line(&error),
        }
    };
    assert!(
        refused.contains(&format!("may have {LIMIT} files open")) && refused.contains("ulimit -n"),
        "{refused}"
    );
    assert!(holds.len() > 30, "{}", holds.len());
    let mut registrations = Vec::new();
    let cause = loop {
        let next = INSTANCES + u16::try_from(registrations.len()).expect("few");
        let registration = registry.register(instance("greeter", next), Duration::from_secs(2));
        let outcome = outcome(&registration).await;
        registrations.push(registration);
        if let Err(cause) = outcome {
            break cause;
        }
    };
    assert!(cause.contains("ulimit -n"), "{cause}");
    // To look takes one as well, and whoever cannot look takes nobody for dead.
    let mut rest = Vec::new();
    let refusal = async {
        loop {
            take_all(&mut rest);
            if let Err(error) = store.list(&service("greeter")).await {
                break one_line(&error);
            }
        }
    };
    let refused = soon("a refusal to list", refusal).await;
    assert!(refused.contains("ulimit -n"), "{refused}");
    let stale = async {
        while !matches!(watch.view().freshness, Freshness::Stale { .. }) {
            take_all(&mut rest);
            let _another_look = timeout(A_MOMENT, watch.changed()).await;
        }
    };
    soon("staleness", stale).await;
    let view = watch.view();
    assert!(
        !view.snapshot.is_some_and(|all| all.is_empty()),
        "they live"
    );

    allow(1_000);
    for registration in &registrations {
        until_held(registration).await;
    }
    let live = async {
        while watch.view().freshness != Freshness::Live
            || watch
                .view()
                .snapshot
                .as_ref()
                .is_none_or(|all| all.len() != holds.len() + registrations.len())
        {
            watch.changed().await;
        }
    };
    soon("all of them, again", live).await;
}

#[tokio::test]
async fn a_process_without_descriptors_says_so_and_goes_on_when_it_has_some() {
    if let Some(root) = given_root() {
        return run_out(&root).await;
    }
    let registry = File::new();
    succeed("few descriptors", again(FEW, &registry)).await;
}

async fn hold_many(root: &Path) {
    allow(u64::from(INSTANCES) + 100);
    let store = FileStore::open(root).expect("a store");
    let mut holds = Vec::new();
    for port in 1..=INSTANCES {
        holds.push(hold(&store, &instance("greeter", port)).await);
    }
    println!("\nheld");
    std::future::pending::<()>().await;
}

// Real time is what is measured, between processes.
#[expect(clippy::disallowed_methods)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_instances_of_one_process_come_and_go_together() {
    if let Some(root) = given_root() {
        return hold_many(&root).await;
    }
    let registry = File::new();
    let store = registry.store();
    let mut follower = Follower::start(&store, "greeter").await;
    let owner = Process::spawn("owner", again(MANY, &registry)).expect("it starts");
    let held = owner.wait_for_line("held", PATIENCE).await;
    held.expect("a thousand registrations");
    let count = usize::from(INSTANCES);
    assert_eq!(listed(&store, "greeter").await.len(), count);
    follower.until(|all| all.len() == count).await;
    let killed = Instant::now();
    owner.signal(Signal::SIGKILL).expect("it lives");
    follower.until(Snapshot::is_empty).await;
    let taken = killed.elapsed();
    println!("{count} instances that died together were gone after {taken:?}");
    assert!(taken < Duration::from_secs(5), "{taken:?}");
}
