//! A cluster on real etcd is started, broken and mended.

use std::time::Duration;

use testkit::{
    etcd::{Cluster, ClusterOptions},
    eventually,
};

async fn get(cluster: &Cluster, key: &str) -> anyhow::Result<String> {
    Ok(cluster
        .etcdctl_text(&["get", "--print-value-only", key])
        .await?
        .trim()
        .to_owned())
}

#[tokio::test]
async fn a_cluster_survives_its_leader_and_comes_back_with_its_data() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    cluster.etcdctl(&["put", "key", "value"]).await?;
    let leader = cluster.leader().await?;
    cluster.kill(leader).await?;
    let next = cluster.leader().await?;
    assert_ne!(leader, next);
    assert_eq!(get(&cluster, "key").await?, "value");
    cluster.restart(leader).await?;
    cluster.stop_all().await?;
    cluster.start_all().await?;
    assert_eq!(get(&cluster, "key").await?, "value");
    Ok(())
}

#[tokio::test]
async fn a_wiped_cluster_is_empty_and_has_the_ids_it_had() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_one().await?;
    let before = cluster.etcdctl(&["put", "key", "value"]).await?;
    cluster.wipe().await?;
    assert_eq!(get(&cluster, "key").await?, "");
    let after = cluster.etcdctl(&["put", "key", "value"]).await?;
    assert_eq!(
        before["header"]["cluster_id"],
        after["header"]["cluster_id"]
    );
    Ok(())
}

#[tokio::test]
async fn a_paused_leader_is_replaced_and_follows_when_it_goes_on() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let leader = cluster.leader().await?;
    cluster.pause(leader)?;
    eventually(Duration::from_secs(30), "another leader", async || {
        cluster.leader().await.is_ok_and(|now| now != leader)
    })
    .await;
    cluster.resume(leader)?;
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_says_so() -> anyhow::Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let options = ClusterOptions {
        client_ports: vec![taken.local_addr()?.port()],
        ..ClusterOptions::default()
    };
    let error = Cluster::start_with(options).await.expect_err("it is taken");
    assert!(
        format!("{error:#}").contains("address already in use"),
        "{error:#}"
    );
    Ok(())
}
