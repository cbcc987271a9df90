//! The kernel does not tell of changes: the store looks more often, says so, and is told again as soon as that is possible.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use inotify::Inotify;
use registry::{
    Loss, Registry, Snapshot, SnapshotWatch, Store,
    backend::file::{FileStore, Watching},
};
use testkit::eventually;

use super::{
    File,
    process::{after, again, given_root, succeed},
};
use crate::{
    fixture::{PATIENCE, document, hold, id, instance, service, soon},
    follower::Follower,
};

const INSTANCES: &str = "backend::file::polling::a_user_without_inotify_instances_polls";
const WATCHES: &str = "backend::file::polling::a_user_without_inotify_watches_polls";

/// Gives the process limits of its own, in a namespace of users; no right is needed for that but to have one.
const WITH_LIMITS: &str = "exec unshare --user --map-root-user \"$@\"";

#[tokio::test]
async fn an_owner_that_polls_is_told_of_its_loss() {
    let registry = File::new();
    let store = FileStore::open_polling(registry.root()).expect("a file store");
    let mut held = hold(&store, &instance("greeter", 1)).await;
    fs::remove_file(registry.record(1)).expect("it is there");
    let loss = soon("the loss", held.lost()).await;
    assert!(matches!(loss, Loss::Deleted(_)), "{loss:?}");
}

#[tokio::test]
async fn a_store_that_polls_asks_the_kernel_for_nothing() {
    let registry = File::new();
    let store = FileStore::open_polling(registry.root()).expect("a file store");
    let url = store.url().to_owned();
    assert!(url.ends_with("/discovery?watch=poll"), "{url}");
    let told = registry.store();
    assert_eq!(told.watching(), Watching::Events);
    let _follower = Follower::start(&store, "greeter").await;
    let Watching::Polling { why } = store.watching() else {
        panic!("it was asked to poll");
    };
    assert!(why.contains("asked for"), "{why}");
}

/// What the kernel may have run out of.
enum Limit {
    /// By a limit of a namespace of our own.
    Of(PathBuf),
    /// By what this process has taken.
    Taken(Vec<Inotify>),
}

impl Limit {
    /// The limit of that name in this process's namespace, where it has one of its own.
    fn reach(name: &str) -> Self {
        let users = fs::read_to_string("/proc/self/uid_map").expect("proc");
        // A namespace of our own has one user; the limits of any other are not ours to change.
        if users.split_whitespace().next_back() == Some("1") {
            let limit = Path::new("/proc/sys/user").join(name);
            fs::write(&limit, "0").expect("it is ours");
            return Self::Of(limit);
        }
        let mut taken = Vec::new();
        while let Ok(one) = Inotify::init() {
            taken.push(one);
        }
        println!(
            "no limit of our own can be set here, so this process has taken {}",
            taken.len()
        );
        Self::Taken(taken)
    }

    fn lift(self) {
        match self {
            Self::Of(limit) => fs::write(limit, "1000").expect("it was written to before"),
            Self::Taken(taken) => drop(taken),
        }
    }
}

async fn until(watch: &mut SnapshotWatch, ports: &[u16]) {
    let wanted = ports.iter().map(|port| format!("10.0.0.1:{port}"));
    let wanted: Vec<_> = wanted.map(|wanted| id(&wanted)).collect();
    let seen = async {
        let is_it = |all: Snapshot| all.instances().map(|i| &i.id).eq(&wanted);
        while !watch.view().snapshot.is_some_and(is_it) {
            watch.changed().await;
        }
    };
    soon("what was changed", seen).await;
}

/// All goes on without word, which is told, and with word when there is some again.
async fn goes_on_without(root: &Path, limit: &str) {
    let store = FileStore::open(root).expect("a store");
    let other = FileStore::open_polling(root).expect("a store");
    assert_eq!(store.watching(), Watching::Events);
    let reached = Limit::reach(limit);
    let registry = Registry::from(store.clone());
    let greeter = service("greeter");
    let mut watch = registry.watch(&greeter);
    let mut documents = registry.document(&greeter);
    until(&mut watch, &[]).await;
    let Watching::Polling { why } = store.watching() else {
        panic!("nothing can be told");
    };
    assert!(why.contains("sysctl fs.inotify.max_user_"), "{why}");

    let mut first = hold(&store, &instance("greeter", 1)).await;
    let _held = hold(&other, &instance("greeter", 2)).await;
    until(&mut watch, &[1, 2]).await;
    fs::remove_file(root.join("greeter/10.0.0.1:1.json")).expect("it is there");
    let loss = soon("the loss", first.lost()).await;
    assert!(matches!(loss, Loss::Deleted(_)), "{loss:?}");
    drop(first);
    until(&mut watch, &[2]).await;
    let set = other.set_document(&greeter, document("new")).await;
    set.expect("it is written");
    let told = async {
        while documents.view().document != Some(document("new")) {
            documents.changed().await;
        }
    };
    soon("the document", told).await;

    reached.lift();
    eventually(PATIENCE, "word", async || {
        store.watching() == Watching::Events
    })
    .await;
    let _again = hold(&other, &instance("greeter", 1)).await;
    until(&mut watch, &[1, 2]).await;
}

async fn run_without(test: &str) {
    let registry = File::new();
    let _made = registry.store();
    let tried = after(WITH_LIMITS, &Command::new("true"), &registry).output();
    let command = if tried.is_ok_and(|tried| tried.status.success()) {
        after(WITH_LIMITS, &again(test, &registry), &registry)
    } else {
        again(test, &registry)
    };
    succeed("without inotify", command).await;
}

#[tokio::test]
async fn a_user_without_inotify_instances_polls() {
    match given_root() {
        Some(root) => goes_on_without(&root, "max_inotify_instances").await,
        None => run_without(INSTANCES).await,
    }
}

#[tokio::test]
async fn a_user_without_inotify_watches_polls() {
    match given_root() {
        Some(root) => goes_on_without(&root, "max_inotify_watches").await,
        None => run_without(WATCHES).await,
    }
}
