//! A registration in several dialects: several keys that come, change and go together.

use std::time::Duration;

use registry::{
    Instance, Loss, Registry, Status,
    backend::etcd::{EtcdOptions, EtcdStore},
    dialect::{DialectName, Dialects},
};
use testkit::{etcd::Cluster, eventually};
use tokio::time::timeout;

use crate::support::{
    PATIENCE, cluster, etcdctl, hold, instance, lost, revoke_every_lease, shared, soon,
};

fn store(cluster: &Cluster, dialects: &[DialectName]) -> EtcdStore {
    let options: EtcdOptions = cluster.url("").parse().expect("a URL");
    let dialects = Dialects::new(dialects.iter().copied()).expect("dialects");
    EtcdStore::new(options.with_dialects(dialects))
}

/// The keys that have something to do with a service: their names, leases, and when they were written.
async fn keys(cluster: &Cluster, service: &str) -> Vec<(String, i64, i64)> {
    let mut keys = Vec::new();
    for prefix in [format!("{service}/"), format!("/microservices/{service}/")] {
        let found = cluster.etcdctl(&["get", "--prefix", &prefix]).await;
        let found = found.expect("etcdctl works");
        for kv in found["kvs"].as_array().into_iter().flatten() {
            let number = |name: &str| kv[name].as_i64().expect("a number");
            keys.push((prefix.clone(), number("lease"), number("mod_revision")));
        }
    }
    keys
}

async fn count(cluster: &Cluster, service: &str) -> usize {
    keys(cluster, service).await.len()
}

const THREE: &[DialectName] = &[DialectName::Etcd, DialectName::Kratos, DialectName::GoZero];

fn saying(instance: &Instance, status: Status) -> Instance {
    instance.clone().with_status(status)
}

#[tokio::test]
async fn all_keys_come_in_one_step_under_one_lease_and_go_together() {
    let cluster = shared().await;
    let hold = hold(&store(&cluster, THREE), &instance("together", 1), 60).await;
    let there = keys(&cluster, "together").await;
    assert_eq!(there.len(), 3, "{there:?}");
    let (_, lease, revision) = there[0];
    assert!(
        there.iter().all(|key| (key.1, key.2) == (lease, revision)),
        "{there:?}"
    );
    hold.release().await.expect("they are ours");
    assert_eq!(count(&cluster, "together").await, 0);
}

#[tokio::test]
async fn who_drains_is_gone_where_nothing_else_can_be_said_and_comes_back() {
    let cluster = shared().await;
    let greeter = instance("drains", 1);
    let mut hold = hold(&store(&cluster, THREE), &greeter, 60).await;
    for (status, left) in [
        (Status::Draining, 1),
        (Status::Serving, 3),
        (Status::NotServing, 1),
        (Status::Serving, 3),
    ] {
        hold.update(saying(&greeter, status))
            .await
            .expect("they are ours");
        assert_eq!(count(&cluster, "drains").await, left, "{status}");
    }
    let loss = timeout(Duration::from_millis(200), hold.lost()).await;
    assert!(loss.is_err(), "{loss:?}");
}

#[tokio::test]
async fn a_registration_that_has_no_key_while_it_drains_is_none_the_less_held() {
    let cluster = shared().await;
    let registry = Registry::new(store(&cluster, &[DialectName::Kratos]));
    let registration = registry.register(instance("keyless", 1), Duration::from_mins(1));
    soon(
        "a hold",
        registration
            .states()
            .wait_for(registry::RegistrationState::is_held),
    )
    .await
    .expect("it lives");
    registration.drain().await;
    assert_eq!(count(&cluster, "keyless").await, 0);
    assert!(registration.state().is_held());
    registration
        .update(|instance| instance.with_status(Status::Serving))
        .await;
    assert_eq!(count(&cluster, "keyless").await, 1);
    registration.deregister().await.expect("it is ours");
    assert_eq!(count(&cluster, "keyless").await, 0);
}

#[tokio::test]
async fn any_key_that_somebody_deletes_is_missed() {
    let cluster = shared().await;
    let mut hold = hold(&store(&cluster, THREE), &instance("missed", 1), 60).await;
    etcdctl(&cluster, &["del", "--prefix", "/microservices/missed/"]).await;
    assert!(matches!(lost(&mut hold).await, Loss::Deleted(_)));
}

#[tokio::test]
async fn who_puts_another_address_there_while_it_drains_has_taken_it() {
    let cluster = shared().await;
    let greeter = instance("taken-meanwhile", 1);
    let mut hold = hold(&store(&cluster, &[DialectName::Kratos]), &greeter, 60).await;
    hold.update(saying(&greeter, Status::Draining))
        .await
        .expect("they are ours");
    let key = "/microservices/taken-meanwhile/10.0.0.7:1";
    let value = r#"{"id":"10.0.0.7:1","name":"taken-meanwhile","version":"","metadata":{},"endpoints":["grpc://10.0.0.9:1"]}"#;
    etcdctl(&cluster, &["put", key, value]).await;
    let back = hold.update(saying(&greeter, Status::Serving)).await;
    back.expect_err("somebody else has it");
    let loss = lost(&mut hold).await;
    assert!(
        matches!(&loss, Loss::Superseded(by) if by.contains("10.0.0.9:1")),
        "{loss:?}"
    );
}

/// Most dialects do not say which start of a process has written a value.
#[tokio::test]
async fn a_registration_that_cannot_say_whose_it_is_comes_back_after_its_lease_was_revoked() {
    let cluster = cluster(1).await;
    let registry = Registry::new(store(&cluster, &[DialectName::Kratos, DialectName::Kitex]));
    let registration = registry.register(instance("unnamed", 1), Duration::from_mins(1));
    for _ in 0..2 {
        eventually(PATIENCE, "it is there", async || {
            count(&cluster, "unnamed").await == 1 && registration.state().is_held()
        })
        .await;
        revoke_every_lease(&cluster).await;
    }
    eventually(PATIENCE, "it is there again", async || {
        count(&cluster, "unnamed").await == 1
    })
    .await;
}

#[tokio::test]
async fn a_registration_that_has_no_key_hears_that_its_lease_is_gone() {
    let cluster = cluster(1).await;
    let registry = Registry::new(store(&cluster, &[DialectName::Kratos]));
    let registration = registry.register(instance("keyless", 1), Duration::from_mins(1));
    let is_held = async || count(&cluster, "keyless").await == 1;
    eventually(PATIENCE, "it is there", is_held).await;
    registration
        .update(|instance| instance.with_status(Status::NotServing))
        .await;
    assert_eq!(count(&cluster, "keyless").await, 0);
    let mut states = registration.states();
    states.borrow_and_update();
    revoke_every_lease(&cluster).await;
    // No keep-alive is due for twenty seconds: it is the next write that is refused.
    registration
        .update(|instance| instance.with_status(Status::Serving))
        .await;
    eventually(PATIENCE, "it is there again", is_held).await;
}

#[tokio::test]
async fn a_key_that_changes_finds_room_in_a_group_that_is_full() {
    let cluster = cluster(1).await;
    let store = store(&cluster, &[DialectName::GrpcLb]);
    let all = (1..=500).map(|port| {
        let store = &store;
        async move { hold(store, &instance("full", port), 60).await }
    });
    let mut all = futures_util::future::join_all(all).await;
    let renamed = instance("full", 1).with_version("2.0");
    all[0].update(renamed).await.expect("there is room");
}
