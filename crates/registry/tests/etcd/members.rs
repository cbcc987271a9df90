//! Members that nobody has configured, and that the cluster tells of.

use registry::{
    Store as _,
    backend::etcd::{EtcdOptions, EtcdStore, EtcdTls, EtcdUser},
};
use testkit::{
    etcd::{Cluster, ClusterOptions, ClusterTls},
    eventually,
    tls::Authority,
};

use crate::support::{PATIENCE, cluster, hold, instance, listed};

/// What leads to the first member alone.
fn first(cluster: &Cluster) -> EtcdOptions {
    let endpoint = &cluster.endpoints()[0];
    format!("etcd://{endpoint}").parse().expect("a URL")
}

/// Waits until somebody has asked so often for the members of the cluster.
async fn asked(cluster: &Cluster, times: u64) {
    eventually(PATIENCE, "questions for members", async || {
        cluster.calls("MemberList").await.expect("a count") >= times
    })
    .await;
}

#[tokio::test]
async fn a_cluster_is_used_on_when_the_only_member_that_was_configured_is_gone() {
    let mut cluster = cluster(3).await;
    let (store, unlearned) = (
        EtcdStore::new(first(&cluster)),
        EtcdStore::new(first(&cluster).with_member_list(false)),
    );
    unlearned.services().await.expect("a list");
    let mut held = hold(&store, &instance("learned", 1), 20).await;
    // Of one it learns of two, and asks each whose it is.
    asked(&cluster, 3).await;
    cluster.kill(0).await.expect("it is killed");
    eventually(PATIENCE, "another member", async || {
        store.services().await.is_ok()
    })
    .await;
    assert!(unlearned.services().await.is_err());
    let changed = instance("learned", 1).with_version("2");
    held.update(changed).await.expect("it is ours");
    cluster.kill(1).await.expect("it is killed");
    cluster.restart(0).await.expect("it is started");
    eventually(PATIENCE, "a member that runs", async || {
        store.services().await.is_ok()
    })
    .await;
    held.release().await.expect("it is ours");
    assert_eq!(listed(&store, "learned").await, 0);
}

#[tokio::test]
async fn a_member_of_another_cluster_is_never_used() {
    let other = cluster(1).await;
    let advertised = format!("--advertise-client-urls=http://{}", other.endpoints()[0]);
    let options = ClusterOptions {
        arguments: vec![advertised],
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start_like(1, options).await.expect("an etcd");
    let store = EtcdStore::new(first(&cluster));
    store.services().await.expect("a list");
    asked(&other, 1).await;
    cluster.kill(0).await.expect("it is killed");
    for _ in 0..5 {
        assert!(store.services().await.is_err());
    }
    assert_eq!(other.calls("Range").await.expect("a count"), 0);
}

#[tokio::test]
async fn a_user_of_one_prefix_may_learn_the_members_too() {
    let mut cluster = cluster(3).await;
    let added = cluster.add_user("ann", "first", "shop/").await;
    added.expect("a user");
    let enabled = cluster.enable_authentication().await;
    enabled.expect("it asks for passwords");
    let options = first(&cluster).with_namespace("shop").expect("a name");
    let store = EtcdStore::new(options.with_user(EtcdUser::new("ann", "first")));
    store.services().await.expect("a list");
    asked(&cluster, 3).await;
    cluster.kill(0).await.expect("it is killed");
    eventually(PATIENCE, "another member", async || {
        store.services().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn members_behind_tls_are_learned_by_tls() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new().expect("an authority");
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, authority.certificate()).expect("it is written");
    let signed = authority.sign("127.0.0.1").expect("a certificate");
    let tls = ClusterTls {
        identity: signed
            .write(directory.path(), "etcd")
            .expect("it is written"),
        client_authority: None,
    };
    let options = ClusterOptions {
        tls: Some(tls),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start_like(3, options).await.expect("an etcd");
    let options = first(&cluster).with_tls(EtcdTls::new().with_authorities(ca));
    let store = EtcdStore::new(options);
    store.services().await.expect("a list");
    asked(&cluster, 3).await;
    cluster.kill(0).await.expect("it is killed");
    eventually(PATIENCE, "another member", async || {
        store.services().await.is_ok()
    })
    .await;
}
