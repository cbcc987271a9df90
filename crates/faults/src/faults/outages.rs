//! All of etcd is down.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use crate::{
    outcome::Seen,
    scene::{Pace, Scene},
};

pub(super) async fn quorum_lost(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    let leader = scene.cluster.leader().await?;
    let down = [leader, (leader + 1) % scene.cluster.len()];
    for member in down {
        scene.cluster.kill(member).await?;
    }
    sleep(pace.outage()).await;
    for member in down {
        scene.cluster.restart(member).await?;
    }
    right_within(scene, Duration::from_secs(2)).await
}

pub(super) async fn all_down(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    scene.cluster.stop_all().await?;
    sleep(pace.outage()).await;
    scene.cluster.start_all().await?;
    right_within(scene, Duration::from_secs(5)).await
}

pub(super) async fn wiped(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    scene.cluster.wipe().await?;
    right_within(scene, Duration::from_secs(5)).await
}

async fn right_within(scene: Scene, bound: Duration) -> Result<Seen> {
    let took = scene.right_again(Instant::now()).await?;
    scene.stays_right().await?;
    scene.close_right_after(took, bound).await
}
