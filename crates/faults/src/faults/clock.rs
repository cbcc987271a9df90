//! The wall clock jumps: that of our own processes, by libfaketime, and never the machine's.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::clock::Clock;
use tokio::time::sleep;

use crate::{
    outcome::Seen,
    scene::{Pace, Scene, TTL},
};

pub(super) async fn jumps(pace: Pace) -> Result<Seen> {
    let clock = Clock::new()?;
    let scene = Scene::open_with(pace, |fleet| {
        for (name, value) in clock.environment() {
            fleet.set_env(name, &value);
        }
    })
    .await?;
    let before = scene.registered().await?;
    for jump in ["+1h", "-1h", "+0"] {
        clock.set(jump)?;
        sleep(pace.pick(2 * TTL, Duration::from_secs(3))).await;
        let now = scene.registered().await?;
        ensure!(now == before, "after {jump}: {before:?} has become {now:?}");
        let freshness = scene.caller.channel().await?["freshness"].clone();
        ensure!(
            freshness == "live",
            "after {jump} the caller says {freshness}"
        );
    }
    for pid in scene
        .fleet
        .servers()
        .iter()
        .map(testkit::fleet::Server::pid)
    {
        clock.is_seen_by(pid)?;
    }
    clock.is_seen_by(scene.caller.client().process().pid())?;
    let seen = Seen {
        remark: "no key was written, and no list became stale".into(),
        ..Seen::default()
    };
    scene.close(seen).await
}
