//! Registrations share leases, and each is as safe as if it had one of its own.

use std::time::Duration;

use futures_util::future::join_all;
use registry::{Loss, RegistrationState, Registry, Store as _};
use testkit::eventually;
use tokio::time::timeout;

use crate::support::{
    PATIENCE, cluster, etcdctl, hold, instance, listed, lost, request, revoke_every_lease, shared,
    soon, store, store_of_member,
};

async fn leases(cluster: &testkit::etcd::Cluster) -> usize {
    let leases = etcdctl(cluster, &["lease", "list"]).await;
    leases.lines().skip(1).count()
}

#[tokio::test]
async fn a_thousand_registrations_share_two_leases_that_go_with_the_last_of_them() {
    let cluster = cluster(1).await;
    let store = store(&cluster);
    let all = join_all((1..=1_000).map(|port| {
        let store = &store;
        async move { hold(store, &instance("many", port), 60).await }
    }));
    let mut all = all.await;
    assert_eq!(listed(&store, "many").await, 1_000);
    assert_eq!(leases(&cluster).await, 2);
    let last = all.pop().expect("there are a thousand");
    drop(all);
    eventually(PATIENCE, "one instance and its lease", async || {
        listed(&store, "many").await == 1 && leases(&cluster).await == 1
    })
    .await;
    last.release().await.expect("it is ours");
    assert_eq!(listed(&store, "many").await, 0);
    eventually(PATIENCE, "no lease", async || leases(&cluster).await == 0).await;
}

#[tokio::test]
async fn what_takes_another_ttl_has_another_lease() {
    let cluster = cluster(1).await;
    let store = store(&cluster);
    let _short = hold(&store, &instance("ttl", 1), 5).await;
    let _long = hold(&store, &instance("ttl", 2), 60).await;
    assert_eq!(leases(&cluster).await, 2);
}

#[tokio::test]
async fn of_two_holds_of_one_key_in_one_process_the_later_has_it() {
    let cluster = shared().await;
    let store = store(&cluster);
    let mut earlier = hold(&store, &instance("twice", 1), 60).await;
    let later = hold(&store, &instance("twice", 1), 60).await;
    assert!(matches!(lost(&mut earlier).await, Loss::Superseded(_)));
    drop(earlier);
    // What the earlier one leaves behind would be seen by whoever comes after it.
    let next = hold(&store, &instance("twice", 2), 60).await;
    next.release().await.expect("it is ours");
    assert_eq!(listed(&store, "twice").await, 1);
    later.release().await.expect("it is ours");
    assert_eq!(listed(&store, "twice").await, 0);
}

#[tokio::test]
async fn a_key_that_is_lost_alone_is_lost_by_its_owner_alone() {
    let cluster = shared().await;
    let store = store(&cluster);
    let mut loser = hold(&store, &instance("alone", 1), 60).await;
    let mut other = hold(&store, &instance("alone", 2), 60).await;
    etcdctl(&cluster, &["del", "alone/10.0.0.7:1"]).await;
    assert!(matches!(lost(&mut loser).await, Loss::Deleted(_)));
    drop(loser);
    let _again = hold(&store, &instance("alone", 1), 60).await;
    assert_eq!(listed(&store, "alone").await, 2);
    let loss = timeout(Duration::from_millis(100), other.lost()).await;
    assert!(loss.is_err(), "{loss:?}");
}

/// The lease of a group that goes on would keep such an instance alive for as long as the process lives.
#[tokio::test]
async fn an_instance_whose_registration_was_given_up_halfway_goes_when_its_own_lease_would_have() {
    const TTL: u64 = 5;
    let cluster = cluster(3).await;
    let store = store_of_member(&cluster, 0);
    let _living = hold(&store, &instance("halfway", 1), TTL).await;
    let hang = |member| cluster.pause(member).expect("it hangs");
    let go_on = |member| cluster.resume(member).expect("it goes on");
    (1..3).for_each(hang);
    let halfway = store.hold(request(&instance("halfway", 2), TTL));
    let given_up = timeout(Duration::from_millis(300), halfway).await;
    assert!(given_up.is_err(), "nobody can have answered");
    (1..3).for_each(go_on);
    let count = async |count| listed(&store, "halfway").await == count;
    eventually(PATIENCE, "it is there all the same", async || {
        count(2).await
    })
    .await;
    eventually(PATIENCE, "it goes", async || count(1).await).await;
}

#[tokio::test]
async fn all_who_share_a_lease_that_was_revoked_are_back_long_before_it_would_have_been_kept_alive()
{
    let cluster = cluster(1).await;
    let registry = Registry::new(store(&cluster));
    let ttl = Duration::from_mins(10);
    let all: Vec<_> = (1..=20)
        .map(|port| registry.register(instance("revoked", port), ttl))
        .collect();
    let store = store(&cluster);
    let there = async || listed(&store, "revoked").await == all.len();
    eventually(PATIENCE, "all are there", there).await;
    revoke_every_lease(&cluster).await;
    eventually(PATIENCE, "all are there again", there).await;
}

#[tokio::test]
async fn of_two_who_register_an_instance_that_both_have_read_one_gives_way() {
    let cluster = cluster(1).await;
    let read = instance("mirrored", 1);
    let mirror = || Registry::new(store(&cluster)).register(read.clone(), Duration::from_mins(1));
    let earlier = mirror();
    let store = store(&cluster);
    let there = async || listed(&store, "mirrored").await == 1;
    eventually(PATIENCE, "it is there", there).await;
    let later = mirror();
    let superseded =
        |state: &RegistrationState| matches!(state, RegistrationState::Superseded { .. });
    soon("the end", earlier.states().wait_for(superseded))
        .await
        .expect("it is told");
    soon(
        "a hold",
        later.states().wait_for(RegistrationState::is_held),
    )
    .await
    .expect("it lives");
}
