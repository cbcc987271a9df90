//! What becomes of long streams when the instance that has them leaves.

use std::time::Duration;

use tempfile::TempDir;
use testkit::{Port, Signal, etcd::Cluster, eventually, fleet::Fleet, http};

const BOUND: Duration = Duration::from_mins(1);

/// Three at a time on each of three greeters. The timeout is for a machine that is busy with other tests.
const STREAMS: [&str; 9] = [
    "--stream",
    "2s",
    "--concurrency",
    "9",
    "--timeout",
    "30s",
    "--forever",
    "--output",
    "json",
];

fn file_registry() -> (String, TempDir) {
    let directory = TempDir::new().expect("a directory");
    let url = format!("file://{}/registry", directory.path().display());
    (url, directory)
}

/// Stops two of three greeters, one after the other, in the middle of streams.
async fn streams_outlive_instances_of(registry: String) {
    let mut fleet = Fleet::new(registry).expect("the binaries are built");
    let admin = Port::free().expect("a port");
    let greeters = fleet.add_many(3).await.expect("three greeters");
    fleet.set_env("DISCOVERY__ADMIN__LISTEN", &admin.address());
    let client = fleet.client(&STREAMS).expect("a client");
    for leaving in &greeters[..2] {
        eventually(BOUND, "a stream on the one that leaves", async || {
            streams_on(&admin, leaving).await > 0
        })
        .await;
        fleet.signal(leaving, Signal::SIGTERM).expect("it runs");
        fleet.gone(leaving, BOUND).await.expect("it ends well");
    }
    client.interrupt().expect("it runs");
    let figures = client.figures(BOUND).await.expect("figures");
    assert_eq!(figures.failures, 0, "{}", figures.failures_in_words());
    assert!(figures.instances.len() == 3, "{:?}", figures.instances);
}

/// How many streams the caller with that admin page has on an instance.
async fn streams_on(admin: &Port, address: &str) -> u64 {
    let channels = http::get(admin.number(), "/debug/channels").await;
    let channels = channels.unwrap_or_default();
    let mut endpoints = channels["greeter"]["endpoints"]
        .as_array()
        .into_iter()
        .flatten();
    let endpoint = endpoints.find(|endpoint| endpoint["id"] == address);
    endpoint
        .and_then(|endpoint| endpoint["in_flight"].as_u64())
        .unwrap_or(0)
}

#[tokio::test]
async fn streams_shorter_than_the_drain_limit_outlive_instances_of_a_file_registry() {
    let (registry, _directory) = file_registry();
    streams_outlive_instances_of(registry).await;
}

#[tokio::test]
async fn streams_shorter_than_the_drain_limit_outlive_instances_of_an_etcd() {
    let etcd = Cluster::start_one().await.expect("an etcd");
    streams_outlive_instances_of(etcd.url("streams")).await;
}

#[tokio::test]
async fn a_stream_longer_than_the_drain_limit_is_told_so_and_the_next_goes_elsewhere() {
    let (registry, _directory) = file_registry();
    let mut fleet = Fleet::new(registry).expect("the binaries are built");
    let admin = Port::free().expect("a port");
    fleet.set_env("DISCOVERY__ADMIN__LISTEN", &admin.address());
    let client = fleet
        .client(&["--stream", "10m", "--forever"])
        .expect("a client");
    fleet.set_env("DISCOVERY__ADMIN__LISTEN", "127.0.0.1:0");
    fleet.set_env("DISCOVERY__SERVER__DRAIN_LIMIT", "100ms");
    let leaving = fleet.add().await.expect("a greeter");
    eventually(BOUND, "a stream", async || {
        streams_on(&admin, &leaving).await == 1
    })
    .await;

    let staying = fleet.add().await.expect("another greeter");
    fleet.stop(&leaving).await.expect("it ends well");
    let told = "0: UNAVAILABLE: the instance stops, and this call took longer than the 100ms";
    let told = client.process().wait_for_line(told, BOUND).await;
    told.expect("the caller is told");
    eventually(BOUND, "the next stream on the one that stays", async || {
        streams_on(&admin, &staying).await == 1
    })
    .await;
}
