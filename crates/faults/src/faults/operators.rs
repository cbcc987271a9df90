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
    revoke_all_leases(&scene).await?;
    right_within(scene, &before, Duration::from_secs(2)).await
}

pub(super) async fn keys_deleted(pace: Pace) -> Result<Seen> {
    let scene = Scene::open(pace).await?;
    let before = scene.registered().await?;
    delete_all_keys(&scene).await?;
    right_within(scene, &before, Duration::from_secs(1)).await
}

async fn right_within(
    scene: Scene,
    before: &BTreeMap<String, Key>,
    bound: Duration,
) -> Result<Seen> {
    let took = scene.right_again(Instant::now()).await?;
    all_are_new(&scene, before).await?;
    scene.close_right_after(took, bound).await
}

pub(super) async fn revoke_all_leases(scene: &Scene) -> Result<()> {
    let leases = scene.cluster.etcdctl_text(&["lease", "list"]).await?;
    let leases: Vec<_> = leases.lines().skip(1).collect();
    ensure!(
        leases.len() >= 3,
        "three greeters have {} leases",
        leases.len()
    );
    for lease in leases {
        let revoke = ["lease", "revoke", lease];
        scene.cluster.etcdctl_text(&revoke).await?;
    }
    Ok(())
}

pub(super) async fn delete_all_keys(scene: &Scene) -> Result<()> {
    let prefix = format!("{NAMESPACE}/greeter/");
    let delete = ["del", "--prefix", &prefix];
    let deleted = scene.cluster.etcdctl_text(&delete).await?;
    ensure!(
        deleted.trim() == "3",
        "{deleted:?} keys were deleted, and there were 3"
    );
    Ok(())
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
