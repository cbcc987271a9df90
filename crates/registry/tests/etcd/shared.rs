//! One watch for all that is followed in a namespace.

use std::time::Duration;

use etcd_client::Client;
use futures_util::{StreamExt as _, future::join_all};
use registry::{
    Change, Document, Instance, Registry, Snapshot, SnapshotWatch, Store as _, Update,
    backend::etcd::{EtcdOptions, EtcdStore},
    one_line,
};
use testkit::etcd::Cluster;

use crate::{
    mute::Mute,
    support::{PATIENCE, Watch, cluster, etcdctl, next, service, soon},
};

const NEVER: Duration = Duration::MAX;

/// The members are reached by these ways alone.
fn options(mutes: &[Mute]) -> EtcdOptions {
    let addresses: Vec<_> = mutes.iter().map(Mute::address).collect();
    let url = format!("etcd://{}/eu", addresses.join(","));
    let options: EtcdOptions = url.parse().expect("a URL");
    let options = options.with_shared_watch().expect("a namespace");
    let options = options.with_member_list(false);
    options.with_quiet(NEVER).with_reconcile(NEVER)
}

fn open_watches(mutes: &[Mute]) -> usize {
    mutes.iter().map(Mute::open_watches).sum()
}

async fn no_watch_is_left(mutes: &[Mute]) {
    testkit::eventually(PATIENCE, "no watch", async || open_watches(mutes) == 0).await;
}

async fn put(cluster: &Cluster, key: &str, port: u16) {
    etcdctl(cluster, &["put", key, &value(port)]).await;
}

fn value(port: u16) -> String {
    format!(r#"{{"Addr":"10.0.0.1:{port}"}}"#)
}

/// The port of the only instance that a change puts there.
async fn told(watch: &mut Watch) -> u16 {
    let change = next(watch).await.expect("it goes on");
    match &change.updates[..] {
        [Update::Upsert(instance)] => instance.address().port().expect("a port"),
        other => panic!("no single instance: {other:?}"),
    }
}

async fn error(watch: &mut Watch) -> String {
    let error = next(watch).await.expect_err("it is over");
    assert!(watch.next().await.is_none(), "it ends with its error");
    one_line(&error)
}

async fn until(watch: &mut SnapshotWatch, port: u16) {
    let is_there = |snapshot: &Snapshot| {
        let mut all = snapshot.instances();
        all.any(|one| one.address().port() == Some(port))
    };
    let seen = async {
        while !watch.view().snapshot.as_ref().is_some_and(is_there) {
            watch.changed().await;
        }
    };
    soon("what was put", seen).await;
}

#[tokio::test]
async fn services_and_documents_share_one_watch_which_ends_with_the_last_of_them() {
    const SERVICES: u16 = 100;
    let cluster = cluster(3).await;
    let mutes = Mute::of_all(&cluster).await;
    let registry = Registry::new(EtcdStore::new(options(&mutes)));
    let names: Vec<_> = (1..=SERVICES).map(|n| service(&format!("s/{n}"))).collect();
    let mut watches: Vec<_> = names.iter().map(|name| registry.watch(name)).collect();
    let mut document = registry.document(&names[0]);
    for watch in &mut watches {
        assert!(soon("a list", watch.first()).await.is_empty());
    }
    soon("a document", document.first()).await;
    assert_eq!(open_watches(&mutes), 1);
    let most = mutes.iter().map(Mute::most_reads).max();
    assert!(most <= Some(8 + 1), "lists come a few at a time: {most:?}");

    let mut client = Client::connect(cluster.endpoints(), None)
        .await
        .expect("a client");
    for (name, port) in names.iter().zip(1..) {
        let put = client.put(format!("eu/{name}/a"), value(port), None);
        put.await.expect("it is put");
    }
    for (watch, port) in watches.iter_mut().zip(1..) {
        until(watch, port).await;
        let snapshot = watch.view().snapshot.expect("it was listed");
        assert_eq!(snapshot.len(), 1, "{snapshot:?}");
    }
    let text = Document::new("{}").expect("a document");
    let written = registry.set_document(&names[0], text.clone()).await;
    written.expect("it is written");
    let seen = soon("the document", document.changed()).await;
    assert_eq!(seen.document, Some(text));

    drop(watches);
    assert_eq!(open_watches(&mutes), 1, "the document is followed by it");
    drop(document);
    no_watch_is_left(&mutes).await;
    let mut again = registry.watch(&names[7]);
    assert_eq!(soon("a list", again.first()).await.len(), 1);
    assert_eq!(open_watches(&mutes), 1);
}

#[tokio::test]
async fn when_the_shared_watch_breaks_all_learn_why_and_share_another() {
    const SERVICES: u16 = 100;
    let mut cluster = cluster(3).await;
    let mutes = Mute::of_all(&cluster).await;
    let registry = Registry::new(EtcdStore::new(options(&mutes)));
    let names: Vec<_> = (1..=SERVICES).map(|n| service(&format!("s{n}"))).collect();
    let mut watches: Vec<_> = names.iter().map(|name| registry.watch(name)).collect();
    for watch in &mut watches {
        soon("a list", watch.first()).await;
    }
    let used = mutes.iter().position(|mute| mute.open_watches() > 0);
    let used = used.expect("it is somewhere");
    cluster.kill(used).await.expect("it is killed");
    for (watch, name) in watches.iter_mut().zip(&names) {
        let stale = async {
            loop {
                let freshness = watch.changed().await.freshness;
                if let registry::Freshness::Stale { cause, .. } = freshness {
                    return cause;
                }
            }
        };
        let cause = soon("it is stale", stale).await;
        assert!(cause.contains(mutes[used].address()), "{name}: {cause}");
    }
    // A new leader may be needed first.
    let another = (used + 1) % mutes.len();
    let mut client = Client::connect([&cluster.endpoints()[another]], None)
        .await
        .expect("a client");
    for (name, port) in names.iter().zip(1..) {
        testkit::eventually(PATIENCE, "a majority takes it", async || {
            let put = client.put(format!("eu/{name}/a"), value(port), None);
            put.await.is_ok()
        })
        .await;
    }
    for (watch, port) in watches.iter_mut().zip(1..) {
        until(watch, port).await;
    }
    assert_eq!(open_watches(&mutes), 1);
    let most = mutes.iter().map(Mute::most_reads).max();
    assert!(most <= Some(8 + 1), "lists come a few at a time: {most:?}");
    drop(watches);
    client.delete("eu/s1/a", None).await.expect("it is deleted");
    no_watch_is_left(&mutes).await;
}

#[tokio::test]
async fn who_does_not_keep_up_starts_anew_and_holds_up_nobody() {
    let cluster = cluster(1).await;
    let mutes = Mute::of_all(&cluster).await;
    let store = EtcdStore::new(options(&mutes));
    let (mut slow, mut other) = (
        store.watch(&service("slow")),
        store.watch(&service("other")),
    );
    for watch in [&mut slow, &mut other] {
        next(watch).await.expect("a list");
    }
    let mut client = Client::connect(cluster.endpoints(), None)
        .await
        .expect("a client");
    for port in 1..25 {
        let large = client.put("eu/slow/large", vec![b'x'; 1_000_000], None);
        large.await.expect("it is put");
        put(&cluster, "eu/other/a", port).await;
        assert_eq!(told(&mut other).await, port);
    }
    let error = error_of_all(&mut slow).await;
    assert!(error.contains("could be kept"), "{error}");
    put(&cluster, "eu/slow/a", 1).await;
    let mut slow = store.watch(&service("slow"));
    next(&mut slow).await.expect("a list");
    put(&cluster, "eu/slow/a", 2).await;
    assert_eq!(told(&mut slow).await, 2);
    put(&cluster, "eu/other/a", 100).await;
    assert_eq!(told(&mut other).await, 100);
    assert_eq!(mutes[0].watches(), 1, "it is the same watch for both");
}

/// Reads what was kept, and then the error.
async fn error_of_all(watch: &mut Watch) -> String {
    loop {
        if let Err(error) = next(watch).await {
            return one_line(&error);
        }
    }
}

#[tokio::test]
async fn a_shared_watch_that_is_stuck_is_left_by_all_for_another_member() {
    let cluster = cluster(3).await;
    let mutes = Mute::of_all(&cluster).await;
    let store = EtcdStore::new(options(&mutes).with_quiet(Duration::from_millis(300)));
    let (a, b) = (service("a"), service("b"));
    let mut watches = [store.watch(&a), store.watch(&b)];
    for watch in &mut watches {
        next(watch).await.expect("a list");
    }
    let is_used = |mute: &&Mute| mute.watches() > 0;
    let stuck = mutes.iter().find(is_used).expect("it is somewhere");
    stuck.hide(Some(""));
    put(&cluster, "eu/a/1", 1).await;
    for watch in &mut watches {
        let error = error(watch).await;
        assert!(error.contains("missed changes"), "{error}");
        assert!(error.contains(stuck.address()), "{error}");
    }
    let mut again = [store.watch(&a), store.watch(&b)];
    for watch in &mut again {
        next(watch).await.expect("a list");
    }
    put(&cluster, "eu/b/1", 2).await;
    assert_eq!(told(&mut again[1]).await, 2);
    assert_eq!(stuck.watches(), 1);
    assert_eq!(mutes.iter().map(Mute::watches).sum::<usize>(), 2);
}

#[tokio::test]
async fn a_shared_watch_that_has_passed_something_over_is_left_by_whom_it_concerns() {
    let cluster = cluster(1).await;
    let mutes = Mute::of_all(&cluster).await;
    let often = Duration::from_millis(100);
    let store = EtcdStore::new(options(&mutes).with_reconcile(often));
    let mut watch = store.watch(&service("a"));
    let mut beside = store.watch(&service("b"));
    for watch in [&mut watch, &mut beside] {
        next(watch).await.expect("a list");
    }
    mutes[0].hide(Some("eu/a/hidden"));
    put(&cluster, "eu/a/hidden", 1).await;
    let passed_over = loop {
        put(&cluster, "eu/a/seen", 2).await;
        if let Err(error) = next(&mut watch).await {
            break one_line(&error);
        }
    };
    assert!(
        passed_over.contains("has passed over what a list has found (changes: 1)"),
        "{passed_over}"
    );
    assert_eq!(store.reconciled().differences, 1);
    let mut again = store.watch(&service("a"));
    let listed = next(&mut again).await.expect("a list").updates;
    assert!(matches!(&listed[..], [Update::Reset(all)] if all.len() == 2));
    put(&cluster, "eu/b/a", 3).await;
    assert_eq!(told(&mut beside).await, 3);
    assert_eq!((mutes[0].watches(), open_watches(&mutes)), (2, 2));
}

#[tokio::test]
async fn who_cannot_list_leaves_the_member_and_the_others_go_on() {
    let cluster = cluster(3).await;
    let mutes = Mute::of_all(&cluster).await;
    let store = EtcdStore::new(options(&mutes));
    let mut first = store.watch(&service("first"));
    next(&mut first).await.expect("a list");
    let is_used = |mute: &&Mute| mute.watches() > 0;
    let used = mutes.iter().find(is_used).expect("it is somewhere");
    used.keep_from_readers("eu/second/");
    let mut second = store.watch(&service("second"));
    let refused = error(&mut second).await;
    assert!(refused.contains(used.address()), "{refused}");
    let mut second = store.watch(&service("second"));
    next(&mut second).await.expect("a list");
    let mut third = store.watch(&service("third"));
    next(&mut third).await.expect("a list");
    for (key, watch) in [
        ("eu/first/a", &mut first),
        ("eu/second/a", &mut second),
        ("eu/third/a", &mut third),
    ] {
        put(&cluster, key, 7).await;
        assert_eq!(told(watch).await, 7);
    }
    assert_eq!((used.open_watches(), open_watches(&mutes)), (1, 2));
    drop((first, second, third));
    no_watch_is_left(&mutes).await;
}

#[tokio::test]
async fn nothing_is_missed_by_whoever_comes_while_everything_moves() {
    const SERVICES: usize = 6;
    let cluster = cluster(3).await;
    let options: EtcdOptions = cluster.url("eu").parse().expect("a URL");
    let options = options.with_shared_watch().expect("a namespace");
    let store = EtcdStore::new(options.with_reconcile(Duration::from_millis(20)));
    let client = Client::connect(cluster.endpoints(), None)
        .await
        .expect("a client");
    // `s0` is a prefix of `s0/s0`, and so on.
    let name = |number: usize| vec!["s0"; number + 1].join("/");
    let writers = (0..4).map(|writer| {
        let mut client = client.clone();
        async move {
            let mut random = fastrand::Rng::with_seed(writer);
            for port in 1..600 {
                let service = name(random.usize(..SERVICES));
                let key = format!("eu/{service}/{}", random.u8(..10));
                if random.bool() {
                    let put = client.put(key, value(port), None);
                    put.await.expect("it is put");
                } else {
                    client.delete(key, None).await.expect("it is deleted");
                }
            }
        }
    });
    let writing = async {
        join_all(writers).await;
        for number in 0..SERVICES {
            let key = format!("eu/{}/end", name(number));
            let put = client.clone().put(key, value(1), None).await;
            put.expect("it is put");
        }
    };
    let end = registry::InstanceId::new("end").expect("an id");
    // Each comes when something else has happened.
    let following = (0..SERVICES * 4).map(|number| {
        let (service, store, end) = (service(&name(number % SERVICES)), &store, &end);
        async move {
            let mut turns = number;
            let mut watch = store.watch(&service);
            let mut snapshot = Snapshot::empty(service.clone());
            while snapshot.get(end).is_none() {
                let change = next(&mut watch).await.expect("it goes on");
                assert!(!goes_back(&snapshot, &change), "{snapshot:?} {change:?}");
                snapshot = snapshot.apply(change);
                if turns > 0 {
                    turns -= 1;
                    if turns.is_multiple_of(5) {
                        watch = store.watch(&service);
                    }
                }
            }
            snapshot
        }
    });
    let ((), snapshots) = tokio::join!(writing, join_all(following));
    for snapshot in snapshots {
        let listed = store.list(snapshot.service()).await.expect("a list");
        assert!(listed.changes_since(&snapshot).is_empty(), "{snapshot:?}");
    }
    assert_eq!(store.reconciled().differences, 0);
    assert!(store.reconciled().lists > 50);
}

/// Whether a change tells of anything that was overtaken already.
fn goes_back(snapshot: &Snapshot, change: &Change) -> bool {
    let read_at = |one: &Instance| one.origin().map(|origin| origin.revision);
    change.updates.iter().any(|update| match update {
        Update::Upsert(new) => {
            let old = snapshot.get(&new.id);
            old.is_some_and(|old| read_at(old) > read_at(new))
        }
        Update::Reset(_) | Update::Remove(_) => false,
    })
}
