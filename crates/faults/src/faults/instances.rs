//! Instances die, leave, hang, and come.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{Signal, until};
use tokio::time::Instant;

use crate::{
    caller::{CALLERS, DEADLINE},
    outcome::{MayFail, Seen},
    scene::{EXPIRED, PATIENCE, Pace, Scene},
};

pub(super) async fn killed(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    let victim = scene.eldest()?;
    let since = Instant::now();
    scene.fleet.kill(&victim).await?;
    let took = scene.right_again(since).await?;
    scene.close_right_after(took, EXPIRED).await
}

pub(super) async fn stopped(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    let victim = scene.eldest()?;
    scene.fleet.stop(&victim).await?;
    // It has left the registry before it ended.
    let took = scene.right_again(Instant::now()).await?;
    scene.close_right_after(took, Duration::from_secs(1)).await
}

pub(super) async fn hangs(pace: Pace) -> Result<Seen> {
    let scene = Scene::open_like(pace, DEADLINE, |_| ()).await?;
    let victim = scene.eldest()?;
    scene.fleet.signal(&victim, Signal::SIGSTOP)?;
    until(PATIENCE, "its lease to end", async || {
        let registered = scene.registered().await?;
        ensure!(!registered.contains_key(&victim), "it is registered");
        Ok(())
    })
    .await?;
    scene.calm().await;
    scene.fleet.signal(&victim, Signal::SIGCONT)?;
    let took = scene.right_again(Instant::now()).await?;
    let seen = Seen {
        may_fail: MayFail::AtMost(CALLERS),
        right_after: Some((took, Duration::from_secs(2))),
        ..Seen::default()
    };
    scene.close(seen).await
}

pub(super) async fn rolling_restart(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    for address in scene.fleet.addresses() {
        scene.fleet.restart(&address).await?;
        scene.right_again(Instant::now()).await?;
    }
    scene.close(Seen::default()).await
}

pub(super) async fn scaling(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    let many = pace.pick(30, 9);
    scene.fleet.add_many(many - 3).await?;
    scene.right_again(Instant::now()).await?;
    scene.calm().await;
    let mut leaving = scene.fleet.addresses();
    leaving.truncate(many - 3);
    for address in &leaving {
        scene.fleet.signal(address, Signal::SIGTERM)?;
    }
    for address in &leaving {
        // Most have ended by now, which is as well.
        scene.fleet.gone(address, PATIENCE).await?;
    }
    let took = scene.right_again(Instant::now()).await?;
    scene.close_right_after(took, Duration::from_secs(1)).await
}
