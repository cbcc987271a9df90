//! What an operator wants of an instance outlives all that the instance goes through, and etcd.

use anyhow::{Result, ensure};
use registry::{InstanceId, Intent, ServiceName, Status};
use tokio::time::{Instant, sleep};

use super::operators::{delete_all_keys, revoke_all_leases};
use crate::{
    outcome::Seen,
    scene::{NAMESPACE, PATIENCE, Pace, Scene, TTL},
};

pub(super) async fn drained(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    let victim = scene.eldest()?;
    let others: Vec<_> = scene
        .fleet
        .addresses()
        .into_iter()
        .filter(|address| *address != victim)
        .collect();
    let registry = registry::connect(&scene.cluster.url(NAMESPACE))?;
    let (greeter, id) = (ServiceName::new("greeter")?, InstanceId::new(&victim)?);
    let draining = Intent::from(Status::Draining);
    registry.set_intent(&greeter, &id, draining).await?;
    scene.caller.until_it_calls(&others, PATIENCE).await?;

    // A process that is started learns of it from etcd, and remembers it when that is wiped.
    scene.fleet.restart(&victim).await?;
    scene.registry_is_right(Instant::now()).await?;
    scene.calm().await;
    let before = scene.caller.picks_of(&victim).await?;
    scene.cluster.wipe().await?;
    scene.registry_is_right(Instant::now()).await?;
    scene.caller.until_it_calls(&others, PATIENCE).await?;
    delete_all_keys(&scene).await?;
    scene.registry_is_right(Instant::now()).await?;
    revoke_all_leases(&scene).await?;
    scene.registry_is_right(Instant::now()).await?;
    sleep(pace.pick(TTL, TTL / 5)).await;
    let after = scene.caller.picks_of(&victim).await?;
    ensure!(
        after == before,
        "it was called {after} times, and {before} before that"
    );
    scene.caller.until_it_calls(&others, PATIENCE).await?;

    registry.clear_intent(&greeter, &id).await?;
    scene.right_again(Instant::now()).await?;
    let seen = Seen {
        remark: "it was not called until it was given back".into(),
        ..Seen::default()
    };
    scene.close(seen).await
}
