//! One registration of one process, and an etcd that goes, hangs or goes back: what its owner is told is true.

use std::{fs, path::Path, process::Command, time::Duration};

use registry::{Instance, Registration, RegistrationState, Registry, Store as _};
use testkit::{etcd::Cluster, eventually};
use tokio::time::Instant;

use crate::support::{PATIENCE, cluster, etcdctl, instance, listed, service, soon, store};

const TTL: Duration = Duration::from_secs(2);

async fn until(registration: &Registration, what: &str, is: impl Fn(&RegistrationState) -> bool) {
    let mut states = registration.states();
    let reached = soon(what, states.wait_for(is)).await.is_ok();
    assert!(
        reached,
        "{what}: it has ended as {:?}",
        registration.state()
    );
}

async fn held(registration: &Registration) {
    until(registration, "a hold", RegistrationState::is_held).await;
}

/// Waits until the registry is known not to answer.
async fn failed(registration: &Registration) {
    until(registration, "a failure", |state| {
        matches!(state, RegistrationState::Retrying { attempts: 1.., .. })
    })
    .await;
}

async fn registered(cluster: &Cluster, instance: Instance, ttl: Duration) -> Registration {
    let registration = Registry::new(store(cluster)).register(instance, ttl);
    held(&registration).await;
    registration
}

#[tokio::test]
async fn deregistering_says_truly_whether_the_instance_is_gone_after_a_long_outage() {
    let mut cluster = cluster(1).await;
    let mut gone = Vec::new();
    for port in 1..=3 {
        gone.push(registered(&cluster, instance("leaving", port), TTL).await);
    }
    cluster.stop_all().await.expect("all are killed");
    for registration in &gone {
        failed(registration).await;
    }
    let refused = gone.remove(0).deregister().await;
    assert!(refused.is_err(), "nobody was there to be told");
    // One while etcd comes back, and one as soon as it is there.
    let last = gone.remove(1);
    let (during, started) = tokio::join!(gone.remove(0).deregister(), cluster.start_all());
    started.expect("all are started");
    let after = last.deregister().await;
    let store = store(&cluster);
    let left = store.list(&service("leaving")).await.expect("a list");
    for (port, told) in [(2, during), (3, after)] {
        let is_left = left.get(&instance("leaving", port).id).is_some();
        assert!(
            told.is_err() || !is_left,
            "{port}: {told:?}, and it is there"
        );
    }
    eventually(PATIENCE, "the end of every lease", async || {
        listed(&store, "leaving").await == 0
    })
    .await;
}

#[tokio::test]
async fn a_change_waits_for_no_member_that_hangs() {
    let cluster = cluster(1).await;
    let registration = registered(&cluster, instance("changing", 1), TTL).await;
    cluster.pause(0).expect("it is paused");
    until(&registration, "a loss", |state| !state.is_held()).await;
    let asked = Instant::now();
    let updated = registration.update(|instance| instance.with_version("2"));
    soon("an end", updated).await;
    let waited = asked.elapsed();
    assert!(
        waited < Duration::from_secs(3),
        "{waited:?}, and a request takes 3 s"
    );
    cluster.resume(0).expect("it goes on");
    let store = store(&cluster);
    eventually(PATIENCE, "the change", async || {
        let all = store.list(&service("changing")).await;
        all.is_ok_and(|all| {
            all.instances()
                .any(|seen| seen.version.as_deref() == Some("2"))
        })
    })
    .await;
}

/// Copies a directory as an operator does who makes a backup, or restores one.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp runs").success());
}

#[tokio::test]
async fn an_instance_comes_back_after_an_old_backup_was_restored() {
    let mut cluster = cluster(1).await;
    let backup = tempfile::tempdir().expect("a temporary directory");
    let (data, saved) = (cluster.data().join("etcd-0"), backup.path().join("etcd-0"));
    let ttl = Duration::from_secs(5);
    let earlier = registered(&cluster, instance("restored", 1), ttl).await;
    cluster.stop(0).await.expect("it is stopped");
    copy(&data, &saved);
    cluster.restart(0).await.expect("it is started");
    held(&earlier).await;
    earlier.deregister().await.expect("it is ours");
    let later = registered(&cluster, instance("restored", 1), ttl).await;
    let incarnation = later.instance().incarnation;

    cluster.stop(0).await.expect("it is stopped");
    fs::remove_dir_all(&data).expect("it is there");
    copy(&saved, &data);
    cluster.restart(0).await.expect("it is started");
    let store = store(&cluster);
    let is_later = async || {
        let listed = store.list(&service("restored")).await.expect("a list");
        let listed: Vec<_> = listed.instances().map(|seen| seen.incarnation).collect();
        listed == [incarnation]
    };
    eventually(PATIENCE, "the later instance", is_later).await;
    // The lease that came back with the backup ends without anybody's doing.
    eventually(PATIENCE, "the end of the earlier one's lease", async || {
        etcdctl(&cluster, &["lease", "list"])
            .await
            .starts_with("found 1")
    })
    .await;
    held(&later).await;
    assert!(is_later().await, "it is not taken along");
}
