//! The caller is cut off from the registry, or from those it calls.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::{Port, etcd::Cluster, fleet::Fleet, link::Link, until};
use tokio::time::{Instant, sleep};

use crate::{
    caller::{Caller, DEADLINE},
    outcome::{MayFail, Seen},
    scene::{NAMESPACE, PATIENCE, Pace, Scene, fleet},
};

/// A scene whose caller reaches etcd over links.
async fn behind_links(pace: Pace) -> Result<(Scene, Vec<Link>)> {
    let cluster = Cluster::start(3).await?;
    let mut links = Vec::new();
    for endpoint in cluster.endpoints() {
        links.push(Link::to(&endpoint).await?);
    }
    let mut fleet = fleet(&cluster)?;
    fleet.add_many(3).await?;
    let caller = caller_of(&mut fleet, &links, &cluster)?;
    caller.until_it_calls(&fleet.addresses(), PATIENCE).await?;
    let scene = Scene {
        caller,
        fleet,
        cluster,
        pace,
    };
    Ok((scene, links))
}

/// A caller that finds the registry over the links, and the greeters as everybody else does.
fn caller_of(fleet: &mut Fleet, links: &[Link], cluster: &Cluster) -> Result<Caller> {
    let members: Vec<_> = links.iter().map(Link::address).collect();
    fleet.set_registry(&format!("etcd://{}/{NAMESPACE}", members.join(",")));
    let caller = Caller::start(fleet, DEADLINE);
    fleet.set_registry(&cluster.url(NAMESPACE));
    caller
}

pub(super) async fn compacted(pace: Pace) -> Result<Seen> {
    let (mut scene, links) = behind_links(pace).await?;
    let old = scene.fleet.addresses();
    links.iter().for_each(Link::cut);
    knows_that_it_is_stale(&scene).await?;
    // One of the old stays until the caller has seen the new.
    scene.fleet.add_many(3).await?;
    for address in &old[1..] {
        scene.fleet.stop(address).await?;
    }
    let revision = scene.cluster.etcdctl(&["get", "x"]).await?["header"]["revision"]
        .as_i64()
        .context("no revision")?;
    scene
        .cluster
        .etcdctl_text(&["compaction", &revision.to_string()])
        .await?;
    links.iter().for_each(Link::mend);
    let took = scene.right_again(Instant::now()).await?;
    scene.fleet.stop(&old[0]).await?;
    scene.right_again(Instant::now()).await?;
    let seen = Seen {
        right_after: Some((took, Duration::from_secs(5))),
        remark: "the caller's stale list is replaced by a new one".into(),
        ..Seen::default()
    };
    scene.close(seen).await
}

pub(super) async fn from_etcd(pace: Pace) -> Result<Seen> {
    let (mut scene, links) = behind_links(pace).await?;
    links.iter().for_each(Link::cut);
    knows_that_it_is_stale(&scene).await?;
    let victim = scene.eldest()?;
    scene.fleet.kill(&victim).await?;
    sleep(pace.outage()).await;
    links.iter().for_each(Link::mend);
    let took = scene.right_again(Instant::now()).await?;
    scene.close_right_after(took, Duration::from_secs(2)).await
}

/// Waits until the caller has given up the connection on which it watches.
async fn knows_that_it_is_stale(scene: &Scene) -> Result<()> {
    let what = "the caller to know that its list is stale";
    until(PATIENCE, what, async || {
        let freshness = scene.caller.channel().await?["freshness"].clone();
        ensure!(freshness != "live", "it says {freshness}");
        Ok(())
    })
    .await
}

/// Calls fail for as long as nobody can be reached; what counts is how soon they do not any more.
pub(super) async fn from_servers(pace: Pace) -> Result<Seen> {
    let cluster = Cluster::start(3).await?;
    let mut fleet = fleet(&cluster)?;
    let mut links = Vec::new();
    for _ in 0..3 {
        let port = Port::free()?;
        let link = Link::to(&port.address()).await?;
        fleet.add_behind(port, link.address()).await?;
        links.push(link);
    }
    let caller = Caller::start(&mut fleet, DEADLINE)?;
    caller.until_it_calls(&fleet.addresses(), PATIENCE).await?;
    let scene = Scene {
        caller,
        fleet,
        cluster,
        pace,
    };

    links.iter().for_each(Link::cut);
    sleep(pace.outage()).await;
    let before = scene.caller.succeeded().await?;
    links.iter().for_each(Link::mend);
    let mended = Instant::now();
    until(PATIENCE, "a call to succeed", async || {
        ensure!(scene.caller.succeeded().await? > before, "none has");
        Ok(())
    })
    .await?;
    let took = mended.elapsed();
    let failing = scene.caller.failed().await?;
    sleep(Duration::from_secs(2)).await;
    let settled = scene.caller.failed().await?;
    sleep(Duration::from_secs(3)).await;
    let later = scene.caller.failed().await?;
    ensure!(
        later == settled,
        "two seconds after the cut calls still fail: {settled}, then {later}"
    );
    scene.right_again(Instant::now()).await?;
    let seen = Seen {
        may_fail: MayFail::Any,
        right_after: Some((took, Duration::from_secs(2))),
        remark: format!("{failing} calls failed during the cut; none from 2 s after it on"),
        ..Seen::default()
    };
    scene.close(seen).await
}
