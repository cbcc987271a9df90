//! What the file backend opens it closes: descriptors, inotify watches and tasks end with what they were opened for.
//! A test binary of its own with one test, since descriptors belong to a whole process.

use std::{fs, time::Duration};

use futures_util::StreamExt;
use registry::{
    Address, Claim, HoldRequest, Instance, ServiceName, Store, Update, backend::file::FileStore,
};

const INSTANCES: u16 = 200;
const WATCHES: usize = 50;

/// How many descriptors are open, how many inotify watches there are, and how many tasks.
fn open() -> (usize, usize, usize) {
    let descriptors = fs::read_dir("/proc/self/fd").expect("proc").count();
    let watches = fs::read_dir("/proc/self/fdinfo")
        .expect("proc")
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .map(|text| text.lines().filter(|l| l.starts_with("inotify ")).count())
        .sum();
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    (descriptors, watches, tasks)
}

async fn hold_and_watch(store: &FileStore, service: &ServiceName) {
    let before = open();
    let mut holds = Vec::new();
    for port in 1..=INSTANCES {
        let address = Address::new(&format!("10.0.0.1:{port}")).expect("an address");
        let request = HoldRequest {
            instance: Instance::new(service.clone(), address),
            ttl: Duration::from_secs(10),
            claim: Claim::First,
        };
        holds.push(store.hold(request).await.expect("a hold"));
    }
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        let mut watch = store.watch(service);
        let first = watch.next().await.expect("an item").expect("a change");
        assert!(matches!(&first.updates[..], [Update::Reset(all)] if all.len() == holds.len()));
        let mut document = store.watch_document(service);
        let first = document.next().await.expect("an item").expect("no error");
        assert_eq!(first, Ok(None));
        watches.push((watch, document));
    }
    let (descriptors, inotify, tasks) = open();
    let one_each = usize::from(INSTANCES);
    assert_eq!(descriptors, before.0 + one_each + 1, "and one for inotify");
    assert_eq!(
        inotify,
        before.1 + 2,
        "that of the service, and that of all documents"
    );
    assert_eq!(tasks, before.2 + 1, "one task reads the events");
}

#[tokio::test]
async fn everything_ends_with_what_it_was_opened_for() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = FileStore::open(directory.path().join("discovery")).expect("a store");
    let service = ServiceName::new("greeter").expect("a name");
    let before = open();
    for _ in 0..3 {
        hold_and_watch(&store, &service).await;
        testkit::eventually(Duration::from_secs(10), "all is closed", async || {
            open() == before
        })
        .await;
        let left = store.list(&service).await.expect("a list");
        assert!(left.is_empty(), "dropped holds leave nothing");
    }
}
