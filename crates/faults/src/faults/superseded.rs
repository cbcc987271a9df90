//! Two processes on one address and id.

use anyhow::{Context, Result, ensure};
use testkit::{Port, link::Link};
use tokio::time::{Instant, sleep};

use crate::{
    outcome::Seen,
    scene::{PATIENCE, Pace, Scene, TTL},
};

/// The address moves from the earlier process to the later one, as that of a container does; the earlier one lives on.
pub(super) async fn superseded(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    let (earlier, later) = (Port::free()?, Port::free()?);
    let link = Link::to(&earlier.address()).await?;
    scene.fleet.add_behind(earlier, link.address()).await?;
    scene.right_again(Instant::now()).await?;
    let first = scene.registered().await?[link.address()].written;

    link.lead_to(&later.address());
    scene.fleet.add_behind(later, link.address()).await?;
    let earlier = scene
        .fleet
        .servers()
        .iter()
        .find(|s| s.address() == link.address());
    let earlier = earlier.context("the earlier one runs")?;
    let says = "a process that was started later has registered under this id";
    earlier.process().wait_for_line(says, PATIENCE).await?;
    let taken = scene.registered().await?[link.address()].clone();
    ensure!(taken.written > first, "the later one has not taken the key");

    sleep(pace.pick(3 * TTL, TTL)).await;
    let kept = scene.registered().await?[link.address()].clone();
    ensure!(
        kept == taken,
        "the key flaps: {taken:?}, and later {kept:?}"
    );
    let seen = Seen {
        remark: "the earlier one says that it is superseded; its key was written once since".into(),
        right_after: None,
        ..Seen::default()
    };
    scene.close(seen).await
}
