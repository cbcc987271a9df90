//! A watch that does not tell everything, though its member answers, is found out.

use std::time::Duration;

use etcd_client::Client;
use registry::{
    Snapshot, Store as _, Update,
    backend::etcd::{EtcdOptions, EtcdStore},
    one_line,
};
use testkit::etcd::Cluster;

use crate::{
    mute::Mute,
    support::{cluster, next, service},
};

const NEVER: Duration = Duration::MAX;

/// The members are reached by these ways alone.
fn options(mutes: &[Mute]) -> EtcdOptions {
    let addresses: Vec<_> = mutes.iter().map(Mute::address).collect();
    let url = format!("etcd://{}", addresses.join(","));
    let options: EtcdOptions = url.parse().expect("a URL");
    options.with_member_list(false)
}

async fn put(cluster: &Cluster, key: &str, port: u16) {
    let value = format!(r#"{{"Addr":"10.0.0.1:{port}"}}"#);
    let put = cluster.etcdctl(&["put", key, &value]).await;
    put.expect("it is put");
}

/// Follows a watch that is told nothing from some time on to its error, and then another one, which is told what is there.
async fn moves_on(change: impl Fn(EtcdOptions) -> EtcdOptions, is_chatty: bool, says: &str) {
    let cluster = cluster(3).await;
    let mutes = Mute::of_all(&cluster).await;
    let store = EtcdStore::new(change(options(&mutes)));
    let mut watch = store.watch(&service("greeter"));
    next(&mut watch).await.expect("a list");
    let is_used = |mute: &&Mute| mute.watches() > 0;
    let stuck = mutes.iter().find(is_used).expect("the watch is somewhere");
    stuck.hide(Some(""));
    if is_chatty {
        stuck.chatter();
    }
    put(&cluster, "greeter/a", 1).await;
    let error = one_line(&next(&mut watch).await.expect_err("it is stuck"));
    assert!(error.contains(says), "{error}");
    assert!(error.contains(stuck.address()), "{error}");
    let mut again = store.watch(&service("greeter"));
    let listed = next(&mut again).await.expect("a list").updates;
    assert!(
        matches!(&listed[..], [Update::Reset(all)] if all.len() == 1),
        "{listed:?}"
    );
    let elsewhere = mutes.iter().filter(is_used).count();
    assert_eq!((stuck.watches(), elsewhere), (1, 2));
}

#[tokio::test]
async fn a_watch_that_is_silent_when_there_is_something_to_say_is_left_for_another_member() {
    let often = Duration::from_millis(300);
    let options = |options: EtcdOptions| options.with_quiet(often).with_reconcile(NEVER);
    moves_on(options, false, "the watch has missed changes").await;
}

#[tokio::test]
async fn a_watch_that_tells_how_far_it_has_come_and_not_what_has_happened_is_left_as_well() {
    let often = Duration::from_millis(300);
    let options = |options: EtcdOptions| options.with_quiet(often).with_reconcile(NEVER);
    moves_on(options, true, "the watch has missed changes").await;
}

#[tokio::test]
async fn a_watch_that_does_not_tell_what_a_list_finds_is_left_for_another_member() {
    let often = Duration::from_millis(300);
    let options = |options: EtcdOptions| options.with_quiet(NEVER).with_reconcile(often);
    moves_on(options, false, "a list has found 1 changes").await;
}

#[tokio::test]
async fn a_watch_that_has_passed_something_over_ends_and_what_it_was_is_counted() {
    let cluster = cluster(1).await;
    let mutes = Mute::of_all(&cluster).await;
    let often = Duration::from_millis(100);
    let options = options(&mutes).with_quiet(NEVER).with_reconcile(often);
    let store = EtcdStore::new(options);
    let mut watch = store.watch(&service("greeter"));
    let mut snapshot = Snapshot::empty(service("greeter"));
    let first = next(&mut watch).await.expect("a list");
    snapshot = snapshot.apply(first);
    let addresses = |snapshot: &Snapshot| {
        let all = snapshot.instances();
        let all: Vec<_> = all.map(|one| one.address().to_string()).collect();
        all.join(" ")
    };
    mutes[0].hide(Some("greeter/hidden"));
    // A key that is created, changed and deleted, which the watch is never told.
    for (differences, hidden) in (1..).zip([Some(1), Some(2), None]) {
        if let Some(port) = hidden {
            put(&cluster, "greeter/hidden", port).await;
        } else {
            let deleted = cluster.etcdctl(&["del", "greeter/hidden"]).await;
            deleted.expect("it is deleted");
        }
        for port in 100.. {
            put(&cluster, "greeter/seen", port).await;
            match next(&mut watch).await {
                Ok(change) => snapshot = snapshot.apply(change),
                Err(error) => {
                    let error = one_line(&error);
                    assert!(
                        error.contains("has passed over what a list has found (changes: 1)"),
                        "{error}"
                    );
                    break;
                }
            }
        }
        watch = store.watch(&service("greeter"));
        snapshot = snapshot.apply(next(&mut watch).await.expect("a list"));
        let seen = addresses(&snapshot);
        let there = hidden.map_or(String::new(), |port| format!("10.0.0.1:{port} "));
        assert!(seen.starts_with(&format!("{there}10.0.0.1:1")), "{seen}");
        assert_eq!(store.reconciled().differences, differences);
    }
}

#[tokio::test]
async fn lists_find_no_difference_while_everything_moves() {
    const KEYS: u64 = 40;
    let cluster = cluster(3).await;
    let options: EtcdOptions = cluster.url("").parse().expect("a URL");
    let store = EtcdStore::new(options.with_reconcile(Duration::from_millis(20)));
    let mut watch = store.watch(&service("moving"));
    let client = Client::connect(cluster.endpoints(), None)
        .await
        .expect("a client");
    let writers = (0..4).map(|writer| {
        let mut client = client.clone();
        async move {
            let mut random = fastrand::Rng::with_seed(writer);
            for port in 1..500 {
                let key = format!("moving/{}", random.u64(..KEYS));
                if random.bool() {
                    let value = format!(r#"{{"Addr":"10.0.0.1:{port}"}}"#);
                    client.put(key, value, None).await.expect("it is put");
                } else {
                    client.delete(key, None).await.expect("it is deleted");
                }
            }
            client
                .put(
                    format!("moving/end-{writer}"),
                    r#"{"Addr":"10.0.0.2:1"}"#,
                    None,
                )
                .await
                .expect("it is put");
        }
    });
    let reading = async {
        let mut snapshot = Snapshot::empty(service("moving"));
        let is_end = |snapshot: &Snapshot| {
            let all = snapshot.instances();
            all.filter(|one| one.id.as_str().starts_with("end-"))
                .count()
                == 4
        };
        while !is_end(&snapshot) {
            snapshot = snapshot.apply(next(&mut watch).await.expect("it goes on"));
        }
        snapshot
    };
    let (_, snapshot) = tokio::join!(futures_util::future::join_all(writers), reading);
    let listed = store.list(&service("moving")).await.expect("a list");
    assert!(listed.changes_since(&snapshot).is_empty());
    let reconciled = store.reconciled();
    assert_eq!(reconciled.differences, 0);
    assert!(reconciled.lists >= 5, "{reconciled:?}");
}
