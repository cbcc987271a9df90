//! A watch tells everything or ends: it never goes on with a gap.

use std::time::Duration;

use etcd_client::{Client, Txn, TxnOp};
use futures_util::{StreamExt as _, future::join_all};
use registry::{
    Change, Revision, Snapshot, Store as _, Update,
    backend::etcd::{EtcdOptions, EtcdStore},
    one_line,
};
use tokio::time::Instant;

use crate::{
    mute::Mute,
    support::{Watch, cluster, etcdctl, hold, instance, listed, next, service, shared, store},
};

async fn reset(watch: &mut Watch) -> usize {
    let first = next(watch).await.expect("no error");
    match &first.updates[..] {
        [Update::Reset(all)] => all.len(),
        other => panic!("no reset: {other:?}"),
    }
}

/// Drains the stream to its error and sees that it has ended with it.
async fn error(watch: &mut Watch) -> String {
    loop {
        if let Err(error) = next(watch).await {
            assert!(watch.next().await.is_none(), "it ends with its error");
            return one_line(&error);
        }
    }
}

#[tokio::test]
async fn a_list_of_many_pages_is_whole_and_of_one_revision() {
    const INSTANCES: usize = 2_345;
    let cluster = shared().await;
    let client = Client::connect(cluster.endpoints(), None)
        .await
        .expect("a client");
    let puts = (0..INSTANCES).map(|n| {
        let mut client = client.clone();
        let value = format!(r#"{{"Addr":"10.0.0.1:{}"}}"#, n + 1);
        async move { client.put(format!("many/{n}"), value, None).await }
    });
    assert!(join_all(puts).await.iter().all(Result::is_ok));
    let store = store(&cluster);
    assert_eq!(listed(&store, "many").await, INSTANCES);
    assert_eq!(
        store
            .services()
            .await
            .expect("services")
            .iter()
            .filter(|s| s.as_str() == "many")
            .count(),
        1
    );
    let mut watch = store.watch(&service("many"));
    assert_eq!(reset(&mut watch).await, INSTANCES);
    etcdctl(&cluster, &["del", "--prefix", "many/"]).await;
    let mut snapshot = Snapshot::empty(service("many"));
    let mut removed = 0;
    while removed < INSTANCES {
        let change = next(&mut watch).await.expect("no error");
        removed += change.updates.len();
        snapshot = snapshot.apply(change);
    }
    assert!(snapshot.is_empty());
}

#[tokio::test]
async fn forty_thousand_instances_are_listed_and_go_in_one_transaction() {
    const INSTANCES: usize = 40_000;
    const AT_ONCE: usize = 100;
    let cluster = cluster(1).await;
    let mut client = Client::connect(cluster.endpoints(), None)
        .await
        .expect("a client");
    let store = store(&cluster);
    let mut early = store.watch(&service("large"));
    assert_eq!(reset(&mut early).await, 0);
    for first in (0..INSTANCES).step_by(AT_ONCE) {
        let puts = (first..first + AT_ONCE).map(|n| {
            let value = format!(r#"{{"Addr":"10.0.0.1:{}"}}"#, n + 1);
            // Long enough that what deletes them all does not fit into one message.
            TxnOp::put(format!("large/{n:0>64}"), value, None)
        });
        let written = client.txn(Txn::new().and_then(puts.collect::<Vec<_>>()));
        written.await.expect("they are written");
    }
    assert_eq!(listed(&store, "large").await, INSTANCES);
    let mut late = store.watch(&service("large"));
    assert_eq!(reset(&mut late).await, INSTANCES);
    etcdctl(&cluster, &["del", "--prefix", "large/"]).await;
    for (watch, first_updates) in [(&mut early, INSTANCES), (&mut late, 0)] {
        let (mut updates, mut changes) = (Vec::new(), 0);
        while updates.len() < first_updates + INSTANCES {
            updates.extend(next(watch).await.expect("it goes on").updates);
            changes += usize::from(updates.len() > first_updates);
        }
        assert!(changes > 1, "it takes more than one message");
        let mut snapshot = Snapshot::empty(service("large"));
        let deletions = updates.split_off(first_updates);
        let is_removal = |update: &Update| matches!(update, Update::Remove(_));
        assert!(deletions.iter().all(is_removal));
        for updates in [updates, deletions] {
            let revision = Revision(1);
            snapshot = snapshot.apply(Change { revision, updates });
        }
        assert!(snapshot.is_empty());
    }
}

#[tokio::test]
async fn a_watch_ends_when_its_member_has_no_leader_any_more() {
    let cluster = cluster(3).await;
    let options: EtcdOptions = format!("etcd://{}", cluster.endpoints()[0])
        .parse()
        .expect("a URL");
    let store = EtcdStore::new(options.with_quiet(Duration::MAX));
    let mut watch = store.watch(&service("alone"));
    assert_eq!(reset(&mut watch).await, 0);
    for other in [1, 2] {
        cluster.pause(other).expect("it is paused");
    }
    let error = error(&mut watch).await;
    assert!(error.contains("no leader"), "{error}");
}

#[tokio::test]
async fn large_values_beside_the_instances_do_not_keep_them_from_being_listed() {
    const LARGE: usize = 70;
    let cluster = cluster(1).await;
    let mut client = Client::connect(cluster.endpoints(), None)
        .await
        .expect("a client");
    for n in 0..LARGE {
        let put = client.put(format!("large/{n}"), vec![b'x'; 1_000_000], None);
        put.await.expect("it is put");
    }
    let store = store(&cluster);
    let _held = hold(&store, &instance("large", 1), 60).await;
    assert_eq!(listed(&store, "large").await, 1);
    assert_eq!(store.undecodable(), LARGE as u64);
    assert_eq!(reset(&mut store.watch(&service("large"))).await, 1);
}

#[tokio::test]
async fn a_watch_that_fell_behind_a_compaction_ends_and_the_next_one_is_whole() {
    const WRITES: usize = 4_000;
    let cluster = cluster(1).await;
    let store = store(&cluster);
    let _held = hold(&store, &instance("slow", 1), 60).await;
    let mut watch = store.watch(&service("slow"));
    assert_eq!(reset(&mut watch).await, 1);
    // Nobody reads, until etcd can neither send nor keep what it has to say.
    let client = Client::connect(cluster.endpoints(), None)
        .await
        .expect("a client");
    let mut revision = 0;
    for _ in 0..WRITES / 200 {
        let puts = (0..200).map(|_| {
            let mut client = client.clone();
            async move { client.put("slow/other", vec![b'x'; 2_000], None).await }
        });
        for put in join_all(puts).await {
            let header = put.expect("it is written").take_header().expect("a header");
            revision = revision.max(header.revision());
        }
    }
    etcdctl(&cluster, &["compact", &revision.to_string()]).await;
    let error = error(&mut watch).await;
    assert!(error.contains("compaction"), "{error}");
    let mut watch = store.watch(&service("slow"));
    assert_eq!(reset(&mut watch).await, 1);
}

#[tokio::test]
async fn a_watch_ends_when_its_member_dies_and_the_next_one_is_at_another() {
    let mut cluster = cluster(3).await;
    let store = store(&cluster);
    let _held = hold(&store, &instance("watched", 1), 60).await;
    let mut watches: Vec<_> = (0..3).map(|_| store.watch(&service("watched"))).collect();
    for watch in &mut watches {
        assert_eq!(reset(watch).await, 1);
    }
    for member in 0..3 {
        cluster.kill(member).await.expect("it is killed");
        cluster.restart(member).await.expect("it is started");
    }
    for watch in &mut watches {
        let error = error(watch).await;
        assert!(error.contains("127.0.0.1:"), "it names the member: {error}");
    }
    let mut again = store.watch(&service("watched"));
    assert_eq!(reset(&mut again).await, 1);
}

#[tokio::test]
async fn a_watch_ends_when_its_member_hangs() {
    let cluster = cluster(1).await;
    let store = store(&cluster);
    let mut watch = store.watch(&service("hung"));
    assert_eq!(reset(&mut watch).await, 0);
    cluster.pause(0).expect("it is paused");
    let paused = Instant::now();
    error(&mut watch).await;
    let after = paused.elapsed();
    assert!(
        after < Duration::from_secs(15),
        "pings notice it: {after:?}"
    );
}

#[tokio::test]
async fn of_very_many_watches_a_few_list_at_the_same_time() {
    let cluster = cluster(1).await;
    let mutes = Mute::of_all(&cluster).await;
    let url = format!("etcd://{}", mutes[0].address());
    let store = EtcdStore::new(url.parse().expect("a URL"));
    let each = (0..200).map(|n| {
        let mut watch = store.watch(&service(&format!("crowd-{n}")));
        async move { (reset(&mut watch).await, watch) }
    });
    let watches = join_all(each).await;
    assert_eq!(mutes[0].open_watches(), watches.len());
    let most = mutes[0].most_reads();
    assert!((2..=8).contains(&most), "{most}");
}

#[tokio::test]
async fn a_quiet_watch_goes_on() {
    let cluster = shared().await;
    // So short that it is checked some ten times, with what moves beside it and below it.
    let options: EtcdOptions = cluster.url("").parse().expect("a URL");
    let store = EtcdStore::new(options.with_quiet(Duration::from_millis(100)));
    let mut watch = store.watch(&service("quiet"));
    assert_eq!(reset(&mut watch).await, 0);
    let mut updates = Vec::new();
    for port in 1..4 {
        let own = hold(&store, &instance("quiet", port), 60).await;
        let below = hold(&store, &instance("quiet/below", port), 60).await;
        let beside = hold(&store, &instance("quieter", port), 60).await;
        updates.extend(until_quiet(&mut watch).await);
        for hold in [own, below, beside] {
            hold.release().await.expect("it is ours");
        }
        updates.extend(until_quiet(&mut watch).await);
    }
    assert_eq!(updates.len(), 6, "{updates:?}");
    // What a check has seen may be on its way for 5 s; then the watch would end.
    let quiet = tokio::time::timeout(Duration::from_secs(6), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

/// What a watch says before it says nothing for several checks.
async fn until_quiet(watch: &mut Watch) -> Vec<Update> {
    let mut updates = Vec::new();
    while let Ok(item) = tokio::time::timeout(Duration::from_millis(400), watch.next()).await {
        updates.extend(item.expect("an item").expect("no error").updates);
    }
    updates
}
