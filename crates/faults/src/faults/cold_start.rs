//! A caller that starts while there is no registry.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::until;
use tokio::time::Instant;

use crate::{
    caller::{Caller, deadline},
    outcome::Seen,
    scene::{PATIENCE, Pace, Scene},
};

pub(super) async fn cold_start(pace: Pace) -> Result<Seen> {
    let directory = tempfile::tempdir()?;
    let scene = Scene::open_with(pace, |fleet| {
        let directory = directory.path().display().to_string();
        fleet.set_env("DISCOVERY__REGISTRY__CACHE", &directory);
    })
    .await?;
    scene.calm().await;
    let Scene {
        caller,
        mut fleet,
        mut cluster,
        ..
    } = scene;
    caller.stop().await?;
    cluster.stop_all().await?;

    let began = Instant::now();
    let caller = Caller::start(&mut fleet, deadline(pace))?;
    until(PATIENCE, "a call to succeed", async || {
        ensure!(caller.succeeded().await? > 0, "none has");
        Ok(())
    })
    .await?;
    let took = began.elapsed();
    let freshness = caller.channel().await?["freshness"].clone();
    ensure!(freshness != "live", "its list is said to be live");
    cluster.start_all().await?;
    let scene = Scene {
        caller,
        fleet,
        cluster,
        pace,
    };
    until(PATIENCE, "the list to be live", async || {
        let freshness = scene.caller.channel().await?["freshness"].clone();
        ensure!(freshness == "live", "it says {freshness}");
        Ok(())
    })
    .await?;
    scene.right_again(Instant::now()).await?;
    let seen = Seen {
        right_after: Some((took, Duration::from_secs(1))),
        remark: format!("until etcd was back it said: {freshness}"),
        ..Seen::default()
    };
    scene.close(seen).await
}
