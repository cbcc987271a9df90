//! A hold that is lost is reported, whatever took it; one that need not be lost is not.

use futures_util::future::select_all;
use registry::{Loss, Store as _, StoreError, Weight, backend::etcd::EtcdStore, one_line};
use testkit::{etcd::Cluster, eventually};
use tokio::time::{Duration, Instant, timeout};

use crate::support::{
    PATIENCE, cluster, etcdctl, hold, instance, listed, lost, request, service, shared, store,
    store_of_member,
};

const KEY: &str = "10.0.0.7:1";

async fn lease_of(cluster: &Cluster, key: &str) -> String {
    let found = cluster.etcdctl(&["get", key]).await.expect("etcdctl works");
    format!(
        "{:x}",
        found["kvs"][0]["lease"]
            .as_i64()
            .expect("the key has a lease")
    )
}

fn is_gone(loss: &Loss) -> bool {
    matches!(loss, Loss::Gone(_) | Loss::Deleted(_))
}

#[tokio::test]
async fn a_revoked_lease_is_reported() {
    let cluster = shared().await;
    let mut hold = hold(&store(&cluster), &instance("revoked", 1), 60).await;
    let lease = lease_of(&cluster, &format!("revoked/{KEY}")).await;
    etcdctl(&cluster, &["lease", "revoke", &lease]).await;
    assert!(is_gone(&lost(&mut hold).await));
}

#[tokio::test]
async fn a_deleted_key_is_reported() {
    let cluster = shared().await;
    let mut hold = hold(&store(&cluster), &instance("deleted", 1), 60).await;
    etcdctl(&cluster, &["del", &format!("deleted/{KEY}")]).await;
    assert!(is_gone(&lost(&mut hold).await));
    drop(hold);
}

#[tokio::test]
async fn a_key_that_other_software_takes_is_reported() {
    let cluster = shared().await;
    let mut hold = hold(&store(&cluster), &instance("taken", 1), 60).await;
    let value = r#"{"Op":0,"Addr":"10.0.0.8:1","Metadata":null}"#;
    etcdctl(&cluster, &["put", &format!("taken/{KEY}"), value]).await;
    let loss = lost(&mut hold).await;
    assert!(
        matches!(&loss, Loss::Superseded(by) if by.contains("10.0.0.8:1")),
        "{loss:?}"
    );
}

#[tokio::test]
async fn a_hold_outlives_its_ttl_and_its_updates() {
    let cluster = shared().await;
    let store = store(&cluster);
    let greeter = instance("kept", 1);
    let mut hold = hold(&store, &greeter, 4).await;
    let heavier = greeter.with_weight(Weight::new(2).expect("a weight"));
    hold.update(heavier).await.expect("it is ours");
    let loss = timeout(Duration::from_secs(10), hold.lost()).await;
    assert!(loss.is_err(), "{loss:?}");
    assert_eq!(listed(&store, "kept").await, 1);
}

#[tokio::test]
async fn a_released_or_dropped_hold_leaves_no_lease() {
    let cluster = cluster(1).await;
    let store = store(&cluster);
    let released = hold(&store, &instance("left", 1), 60).await;
    let dropped = hold(&store, &instance("left", 2), 60).await;
    released.release().await.expect("it is ours");
    drop(dropped);
    eventually(PATIENCE, "no lease", async || {
        etcdctl(&cluster, &["lease", "list"])
            .await
            .starts_with("found 0")
    })
    .await;
    assert_eq!(listed(&store, "left").await, 0);
}

#[tokio::test]
async fn a_put_that_is_refused_leaves_no_lease() {
    let cluster = cluster(1).await;
    let store = store(&cluster);
    // Beyond what etcd takes, and beyond what its connection takes.
    for size in [2_000_000, 4_000_000] {
        let large = instance("large", 1).with_label("large", "x".repeat(size));
        let refused = store.hold(request(&large, 60)).await.err();
        let cause = one_line(&refused.expect("it is refused"));
        assert!(cause.contains("large"), "{cause}");
        eventually(PATIENCE, "no lease", async || {
            let leases = etcdctl(&cluster, &["lease", "list"]).await;
            leases.starts_with("found 0")
        })
        .await;
    }
}

#[tokio::test]
async fn an_update_of_a_hold_that_is_gone_is_refused() {
    let cluster = shared().await;
    let greeter = instance("update-gone", 1);
    let mut hold = hold(&store(&cluster), &greeter, 60).await;
    etcdctl(&cluster, &["del", &format!("update-gone/{KEY}")]).await;
    let refused = hold.update(greeter).await.expect_err("it is gone");
    assert!(
        matches!(refused, StoreError::UpdateFailed { .. }),
        "{refused:?}"
    );
    assert_eq!(listed(&store(&cluster), "update-gone").await, 0);
}

#[tokio::test]
async fn holds_survive_the_death_of_each_member_in_turn() {
    let mut cluster = cluster(3).await;
    let store = store(&cluster);
    let mut holds = Vec::new();
    for port in 1..=10 {
        holds.push(hold(&store, &instance("survivor", port), 10).await);
    }
    for member in 0..3 {
        cluster.kill(member).await.expect("it is killed");
        // A linearizable answer: the rest has a leader.
        eventually(PATIENCE, "an answer", async || {
            store
                .list(&service("survivor"))
                .await
                .is_ok_and(|all| all.len() == 10)
        })
        .await;
        cluster.restart(member).await.expect("it is started");
    }
    // Longer than the lease: they are kept alive still.
    let lost = select_all(holds.iter_mut().map(|hold| hold.lost()));
    assert!(timeout(Duration::from_secs(12), lost).await.is_err());
}

#[tokio::test]
async fn a_key_that_is_deleted_and_compacted_away_behind_its_owners_back_is_reported() {
    let mut cluster = cluster(3).await;
    let mut hold = hold(&store_of_member(&cluster, 0), &instance("cut-off", 1), 60).await;
    cluster.kill(0).await.expect("it is killed");
    cluster.leader().await.expect("the others have a leader");
    let key = format!("cut-off/{KEY}");
    let deleted = cluster
        .etcdctl(&["del", &key])
        .await
        .expect("it is deleted");
    let revision = deleted["header"]["revision"].to_string();
    // The watch cannot go on from where it broke.
    etcdctl(&cluster, &["put", "other", "x"]).await;
    etcdctl(&cluster, &["compact", &revision]).await;
    cluster.restart(0).await.expect("it is started");
    let loss = lost(&mut hold).await;
    assert_eq!(loss, Loss::Deleted("its key is gone".into()));
}

#[tokio::test]
async fn a_hold_survives_each_member_that_hangs() {
    let cluster = cluster(3).await;
    let leader = cluster.leader().await.expect("a leader");
    let followers = [1, 2].map(|next| (leader + next) % 3);
    let endpoints = followers.map(|member| cluster.endpoints()[member].clone());
    let url = format!("etcd://{}", endpoints.join(","));
    let store = EtcdStore::new(url.parse().expect("a URL"));
    let mut hold = hold(&store, &instance("hanging", 1), 4).await;
    // One after the other, for longer than the lease: whichever is in use, one of them hangs while it is.
    for follower in followers {
        cluster.pause(follower).expect("it is paused");
        let loss = timeout(Duration::from_secs(6), hold.lost()).await;
        assert!(loss.is_err(), "{loss:?}");
        assert_eq!(listed(&store, "hanging").await, 1);
        cluster.resume(follower).expect("it goes on");
        let member = store_of_member(&cluster, follower);
        eventually(PATIENCE, "an answer", async || {
            member.list(&service("hanging")).await.is_ok()
        })
        .await;
    }
}

#[tokio::test]
async fn without_etcd_a_hold_is_lost_when_its_ttl_is_over_and_not_before() {
    let mut cluster = cluster(1).await;
    let store = store(&cluster);
    let greeter = instance("outage", 1);
    let began = Instant::now();
    let mut hold = hold(&store, &greeter, 3).await;
    cluster.stop_all().await.expect("all are killed");
    let loss = lost(&mut hold).await;
    assert!(
        matches!(&loss, Loss::Gone(how) if how.contains("refused")),
        "{loss:?}"
    );
    let after = began.elapsed();
    assert!(after >= Duration::from_secs(3), "{after:?}");
    let asked = Instant::now();
    let refused = store
        .hold(request(&greeter, 3))
        .await
        .err()
        .expect("nobody is there");
    assert!(
        matches!(refused, StoreError::HoldFailed { .. }),
        "{refused:?}"
    );
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "a request has a bound"
    );
}

#[tokio::test]
async fn a_member_that_hangs_alone_is_given_up_within_the_bound() {
    let cluster = cluster(1).await;
    let store = store_of_member(&cluster, 0);
    cluster.pause(0).expect("it is paused");
    let asked = Instant::now();
    let refused = store.list(&service("any")).await;
    assert!(
        matches!(refused, Err(StoreError::ListFailed { .. })),
        "{refused:?}"
    );
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
}
