//! What operators do.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use testkit::etcd::Key;
use tokio::time::Instant;

use crate::{
    outcome::Seen,
    scene::{NAMESPACE, Pace, Scene},
};

pub(super) async fn leases_revoked(pace: Pace) -> Result<Seen> {
    let scene = Scene::open(pace).await?;
    let before = scene.registered().await?;
    let leases = scene.cluster.etcdctl_text(&["lease", "list"]).await?;
    let leases: Vec<_> = leases.lines().skip(1).collect();
    ensure!(
        leases.len() >= 3,
        "three greeters have {} leases",
        leases.len()
    );
    for lease in leases {
        scene
            .cluster
            .etcdctl_text(&["lease", "revoke", lease])
            .await?;
    }
    let took = scene.right_again(Instant::now()).await?;
    all_are_new(&scene, &before).await?;
    let right_after = Some((took, Duration::from_secs(2)));
    let seen = Seen {
        right_after,
        ..Seen::default()
    };
    scene.close(seen).await
}

pub(super) async fn keys_deleted(pace: Pace) -> Result<Seen> {
    let scene = Scene::open(pace).await?;
    let before = scene.registered().await?;
    let prefix = format!("{NAMESPACE}/greeter/");
    let deleted = scene
        .cluster
        .etcdctl_text(&["del", "--prefix", &prefix])
        .await?;
    ensure!(
        deleted.trim() == "3",
        "{deleted:?} keys were deleted, and there were 3"
    );
    let took = scene.right_again(Instant::now()).await?;
    all_are_new(&scene, &before).await?;
    let right_after = Some((took, Duration::from_secs(1)));
    let seen = Seen {
        right_after,
        ..Seen::default()
    };
    scene.close(seen).await
}

/// That every key was gone in between.
async fn all_are_new(scene: &Scene, before: &BTreeMap<String, Key>) -> Result<()> {
    for (address, key) in scene.registered().await? {
        let was = before.get(&address).map(|key| key.created);
        ensure!(
            Some(key.created) > was,
            "the key of {address} has never been gone"
        );
    }
    Ok(())
}
