//! How soon it is seen that the owner of a file was killed. A test binary of its own, so that no other test is in the way
//! of what is measured; each owner is this executable again.

use std::{
    env,
    future::pending,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::BoxStream};
use registry::{
    Address, Change, Claim, HoldRequest, Instance, ServiceName, Snapshot, Store, StoreError,
    backend::file::FileStore,
};
use testkit::{Signal, process::Process};
use tokio::{join, time::timeout};

const ROOT: &str = "REGISTRY_TEST_ROOT";
const THIS: &str =
    "of_a_thousand_killed_owners_all_are_gone_and_nearly_all_within_a_tenth_of_a_second";
const PATIENCE: Duration = Duration::from_secs(20);

fn greeter() -> ServiceName {
    ServiceName::new("greeter").expect("a name")
}

/// Holds an instance until it is killed.
async fn own(root: PathBuf) {
    let store = FileStore::open(root).expect("a store");
    let address = Address::new("10.0.0.1:1").expect("an address");
    let request = HoldRequest {
        instance: Instance::new(greeter(), address),
        ttl: Duration::from_secs(10),
        claim: Claim::First,
    };
    let _hold = store.hold(request).await.expect("a hold");
    println!("\nheld");
    pending::<()>().await;
}

struct Follower {
    stream: BoxStream<'static, Result<Change, StoreError>>,
    snapshot: Snapshot,
}

impl Follower {
    async fn until(&mut self, count: usize) {
        while self.snapshot.len() != count {
            let change = timeout(PATIENCE, self.stream.next()).await;
            let change = change.expect("in time").expect("no end").expect("no error");
            self.snapshot = self.snapshot.clone().apply(change);
        }
    }
}

/// How long it took to see each of so many deaths: since the kill, and since the kernel had ended the process, which on a busy
/// machine takes it a while.
// Real time is what is measured, between processes.
#[expect(clippy::disallowed_methods)]
async fn kill(tries: usize, root: &Path, store: &FileStore) -> (Vec<Duration>, Vec<Duration>) {
    let mut follower = Follower {
        stream: store.watch(&greeter()),
        snapshot: Snapshot::empty(greeter()),
    };
    let (mut since_kill, mut since_end) = (Vec::new(), Vec::new());
    for _ in 0..tries {
        let mut command = Command::new(env::current_exe().expect("this executable"));
        command
            .args(["--exact", THIS, "--nocapture"])
            .env(ROOT, root);
        let owner = Process::spawn("owner", command).expect("it starts");
        let held = owner.wait_for_line("held", PATIENCE).await;
        held.expect("it holds its instance");
        follower.until(1).await;
        let killed = Instant::now();
        owner.signal(Signal::SIGKILL).expect("it lives");
        let ended = async {
            owner.ended().await.expect("it was killed");
            Instant::now()
        };
        let seen = async {
            follower.until(0).await;
            Instant::now()
        };
        let (ended, seen) = join!(ended, seen);
        since_kill.push(seen - killed);
        since_end.push(seen.saturating_duration_since(ended));
    }
    since_kill.sort();
    since_end.sort();
    (since_kill, since_end)
}

fn distribution(sorted: &[Duration]) -> String {
    let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
    format!("p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_killed_owners_all_are_gone_and_nearly_all_within_a_tenth_of_a_second() {
    if let Some(root) = env::var_os(ROOT) {
        return own(root.into()).await;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = FileStore::open(directory.path()).expect("a store");
    let (since_kill, since_end) = kill(1_000, directory.path(), &store).await;
    println!(
        "1,000 deaths seen, since the kill: {}",
        distribution(&since_kill)
    );
    println!("since the process had ended: {}", distribution(&since_end));
    // The machine may be busy with something else for as long, now and then.
    assert!(since_end[989] <= Duration::from_millis(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_only_polls_sees_a_death_within_three_tenths() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = FileStore::open_polling(directory.path()).expect("a store");
    let (since_kill, since_end) = kill(20, directory.path(), &store).await;
    println!(
        "20 deaths seen by polling, since the kill: {}",
        distribution(&since_kill)
    );
    assert!(since_end[14] <= Duration::from_millis(300), "{since_end:?}");
}
