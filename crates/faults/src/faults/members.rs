//! Members of etcd die and hang, one at a time.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use crate::{
    outcome::Seen,
    scene::{Pace, Scene},
};

pub(super) async fn leader_killed(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    let before = created(&scene).await?;
    let leader = scene.cluster.leader().await?;
    scene.cluster.kill(leader).await?;
    scene.cluster.leader().await?;
    sleep(pace.outage()).await;
    none_was_lost(&scene, &before).await?;
    scene.close(Seen::default()).await
}

pub(super) async fn each_killed(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    let before = created(&scene).await?;
    for member in 0..scene.cluster.len() {
        scene.cluster.kill(member).await?;
        scene.calm().await;
        scene.cluster.restart(member).await?;
        scene.calm().await;
    }
    none_was_lost(&scene, &before).await?;
    scene.close(Seen::default()).await
}

pub(super) async fn paused(pace: Pace) -> Result<Seen> {
    let scene = Scene::open(pace).await?;
    let before = created(&scene).await?;
    let member = scene.follower().await?;
    scene.cluster.pause(member)?;
    sleep(Duration::from_secs(10)).await;
    scene.cluster.resume(member)?;
    scene.calm().await;
    none_was_lost(&scene, &before).await?;
    scene.close(Seen::default()).await
}

/// When each registration's key came to be.
pub(super) async fn created(scene: &Scene) -> Result<BTreeMap<String, u64>> {
    let registered = scene.registered().await?;
    Ok(registered
        .into_iter()
        .map(|(address, key)| (address, key.created))
        .collect())
}

pub(super) async fn none_was_lost(scene: &Scene, before: &BTreeMap<String, u64>) -> Result<()> {
    let now = created(scene).await?;
    ensure!(
        now == *before,
        "registrations were lost: their keys were made at {before:?}, and now it is {now:?}"
    );
    Ok(())
}
