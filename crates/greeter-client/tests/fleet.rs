//! What the binary does with greeters that run as processes of their own.

use std::{collections::BTreeSet, time::Duration};

use tempfile::TempDir;
use testkit::{
    Port, Signal,
    etcd::Cluster,
    eventually,
    fleet::{Client, Fleet},
    http,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

const BOUND: Duration = Duration::from_mins(1);

/// Calls as fast as eight callers can make them. The timeout is for a machine that is busy with other tests; a call that
/// is lost is not answered in any time.
const LOAD: [&str; 8] = [
    "--interval",
    "0s",
    "--concurrency",
    "8",
    "--timeout",
    "10s",
    "--output",
    "json",
];

/// A fleet with a file registry of its own.
fn fleet() -> (Fleet, TempDir) {
    let directory = TempDir::new().expect("a directory");
    let registry = format!("file://{}/registry", directory.path().display());
    (
        Fleet::new(registry).expect("the binaries are built"),
        directory,
    )
}

/// Waits for the greeter at `address` to appear in the client's log, after what is in it already.
async fn wait_until_called(client: &Client, address: &str) {
    let called = format!("{address} ");
    client
        .process()
        .wait_for_line(&called, BOUND)
        .await
        .expect("it is called");
}

#[tokio::test]
async fn two_greeters_share_the_calls_and_the_figures_add_up() {
    let (mut fleet, _directory) = fleet();
    let addresses = fleet.add_many(2).await.expect("two greeters");
    let client = fleet
        .client(&[
            "--count",
            "2000",
            // Those that are made before the other is connected are few then.
            "--rate",
            "500",
            "--concurrency",
            "8",
            "--timeout",
            "30s",
            "--output",
            "json",
        ])
        .expect("a client");
    let figures = client.figures(BOUND).await.expect("figures");

    assert_eq!((figures.calls, figures.failures), (2_000, 0));
    assert_eq!(figures.statuses["OK"], 2_000);
    assert_eq!(figures.instances.values().sum::<u64>(), 2_000);
    for address in &addresses {
        assert!(figures.instances[address] > 500, "{:?}", figures.instances);
    }
    let latency = |name: &str| figures.latency_us[name];
    assert!(latency("p50") > 0 && latency("p50") <= latency("p99"));
    assert!(latency("p99") <= latency("p999") && latency("p999") <= latency("max"));
    assert!(figures.rps > 0.0);
}

#[tokio::test]
async fn the_admin_page_measures_the_calls_and_explains_where_they_go() {
    let (mut fleet, directory) = fleet();
    let greeter = fleet.add().await.expect("a greeter");
    let port = Port::free().expect("a port");
    let config = directory.path().join("client.toml");
    let admin = format!("[admin]\nlisten = \"127.0.0.1:{port}\"\n");
    std::fs::write(&config, admin).expect("a configuration");
    let config = config.to_str().expect("UTF-8");
    let client = fleet
        .client(&["--config", config, "--forever", "--interval", "10ms"])
        .expect("a client");
    let page = async |path: &str| page(port.number(), path).await.unwrap_or_default();
    eventually(BOUND, "a call to end", async || {
        let ended = "rpc_client_call_duration_seconds_count";
        page("/metrics").await.contains(ended)
    })
    .await;
    let metrics = page("/metrics").await;
    for name in [
        "grpc_client_attempt_duration_seconds_bucket",
        "grpc_client_attempt_sent_total_compressed_message_size_bytes_sum",
        "rpc_client_call_duration_seconds_count",
        "grpc_method=\"helloworld.Greeter/SayHello\"",
        "server_address=\"greeter\"",
        "balance_endpoints{",
        "balance_list_staleness_seconds",
    ] {
        assert!(metrics.contains(name), "{name} is not in {metrics}");
    }
    let channels = page("/debug/channels").await;
    let channels: serde_json::Value = serde_json::from_str(&channels).expect("JSON");
    let endpoint = &channels["greeter"]["endpoints"][0];
    let key = format!(
        "{}/registry/greeter/{greeter}.json",
        directory.path().display()
    );
    assert_eq!(endpoint["key"], key, "{channels}");
    assert_eq!(endpoint["state"], "READY");
    assert_eq!(endpoint["connections"][0]["peer"], greeter);
    drop(client);
}

/// What the admin page shows at `path`.
async fn page(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    Ok(body.unwrap_or_default().to_owned())
}

#[tokio::test]
async fn each_call_is_a_line_and_ctrl_c_prints_the_table() {
    let (mut fleet, _directory) = fleet();
    let address = fleet.add().await.expect("a greeter");
    let client = fleet
        .client(&["--interval", "10ms", "--name", "you"])
        .expect("a client");
    for number in 0..3 {
        let line = format!("{number}: Hello you from {address}");
        client
            .process()
            .wait_for_line(&line, BOUND)
            .await
            .expect("a greeting");
    }
    client.interrupt().expect("it runs");
    let (status, printed) = client.end(BOUND).await.expect("it ends");
    assert!(status.success());
    assert!(
        printed.iter().any(|line| line.contains("p99.9")),
        "{printed:?}"
    );
    assert!(
        printed
            .iter()
            .any(|line| line.contains(&address) && line.contains('█'))
    );
    assert!(
        printed
            .last()
            .expect("a sentence")
            .ends_with("calls were made and 0 failed.")
    );
}

#[tokio::test]
async fn a_client_that_was_there_first_waits_and_fails_no_call() {
    let (mut fleet, _directory) = fleet();
    let client = fleet
        .client(&["--count", "20", "--timeout", "30s", "--output", "json"])
        .expect("a client");
    let waiting = "waiting for an instance of greeter";
    client
        .process()
        .wait_for_line(waiting, BOUND)
        .await
        .expect("it waits");
    fleet.add().await.expect("a greeter");
    let figures = client.figures(BOUND).await.expect("figures");
    assert_eq!((figures.calls, figures.failures), (20, 0));
}

#[tokio::test]
async fn a_rate_is_held() {
    let (mut fleet, _directory) = fleet();
    fleet.add().await.expect("a greeter");
    let client = fleet
        .client(&[
            "--rate",
            "100",
            "--count",
            "201",
            "--concurrency",
            "4",
            "--output",
            "json",
        ])
        .expect("a client");
    let figures = client.figures(BOUND).await.expect("figures");
    assert_eq!((figures.calls, figures.failures), (201, 0));
    // 201 calls take 2 s; what time a machine that is busy loses is never caught up with in a burst.
    assert!(figures.rps < 106.0, "{}", figures.rps);
}

#[tokio::test]
async fn an_address_list_needs_no_registry() {
    let (mut fleet, _directory) = fleet();
    let address = fleet.add().await.expect("a greeter");
    let target = format!("static:///{address}");
    let arguments = [
        "--target",
        &target,
        "--count",
        "5",
        "--policy",
        "pick_first",
        "--output",
        "json",
    ];
    let figures = fleet
        .client(&arguments)
        .expect("a client")
        .figures(BOUND)
        .await
        .expect("figures");
    assert_eq!(figures.instances[&address], 5);
}

#[tokio::test]
async fn no_call_fails_while_greeters_are_killed_stopped_added_and_restarted() {
    let (mut fleet, _directory) = fleet();
    let first = fleet.add_many(3).await.expect("three greeters");
    let client = fleet.client(&LOAD).expect("a client");
    for address in &first {
        wait_until_called(&client, address).await;
    }

    fleet.kill(&first[0]).await.expect("it is killed");
    fleet.stop(&first[1]).await.expect("it drains and ends");
    let fourth = fleet.add().await.expect("one more");
    wait_until_called(&client, &fourth).await;
    for address in [&first[2], &fourth] {
        fleet.restart(address).await.expect("it comes back");
    }

    client.interrupt().expect("it runs");
    let figures = client.figures(BOUND).await.expect("figures");
    assert_eq!(figures.failures, 0, "{}", figures.failures_in_words());
    assert!(figures.calls > 1_000, "{} calls", figures.calls);
    let called: BTreeSet<_> = figures.instances.keys().collect();
    assert_eq!(called, first.iter().chain([&fourth]).collect());
}

#[tokio::test]
async fn no_call_fails_when_the_leader_of_etcd_is_killed_and_who_comes_then_is_found() {
    let mut cluster = Cluster::start(3).await.expect("an etcd cluster");
    let mut fleet = Fleet::new(cluster.url("fleet")).expect("the binaries are built");
    let first = fleet.add_many(2).await.expect("two greeters");
    let client = fleet.client(&LOAD).expect("a client");
    for address in &first {
        wait_until_called(&client, address).await;
    }

    let leader = cluster.leader().await.expect("a leader");
    cluster.kill(leader).await.expect("it is killed");
    let third = fleet.add().await.expect("one more");
    wait_until_called(&client, &third).await;

    client.interrupt().expect("it runs");
    let figures = client.figures(BOUND).await.expect("figures");
    assert_eq!(figures.failures, 0, "{}", figures.failures_in_words());
    assert_eq!(figures.instances.len(), 3);
}

/// A client of one greeter that hangs, with a call in flight that has a minute.
async fn hanging() -> (Client, Fleet, String, TempDir) {
    let (mut fleet, directory) = fleet();
    let address = fleet.add().await.expect("a greeter");
    let client = fleet
        .client(&["--interval", "1ms", "--timeout", "1m"])
        .expect("a client");
    client
        .process()
        .wait_for_line("0: Hello", BOUND)
        .await
        .expect("a greeting");
    fleet.signal(&address, Signal::SIGSTOP).expect("it hangs");
    let mut before = 0;
    // No line any more, so the client waits for an answer.
    eventually(BOUND, "the greetings to stop", async || {
        sleep(Duration::from_millis(300)).await;
        let now = client.process().output().len();
        std::mem::replace(&mut before, now) == now
    })
    .await;
    (client, fleet, address, directory)
}

#[tokio::test]
async fn after_ctrl_c_calls_in_flight_are_finished() {
    let (client, fleet, address, _directory) = hanging().await;
    client.interrupt().expect("it runs");
    let early = client.end(Duration::from_millis(500)).await;
    assert!(early.is_err(), "it waits for its call");
    fleet.signal(&address, Signal::SIGCONT).expect("it goes on");
    let (status, printed) = client.end(BOUND).await.expect("it ends");
    assert!(status.success());
    assert!(
        printed
            .last()
            .expect("a sentence")
            .ends_with("and 0 failed."),
        "{printed:?}"
    );
}

#[tokio::test]
async fn a_second_ctrl_c_does_not_wait() {
    let (client, _fleet, _address, _directory) = hanging().await;
    client.interrupt().expect("it runs");
    assert!(
        client.end(Duration::from_millis(200)).await.is_err(),
        "it waits for its call"
    );
    // One that is not heard by itself, because the first has not been yet, is one with that.
    eventually(BOUND, "the end", async || {
        // There is nobody to ask once it has ended.
        let _ = client.interrupt();
        client.has_ended()
    })
    .await;
    let (status, _printed) = client.end(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(130));
}

/// How many attempts the caller with that admin page has given an instance; `None` of one that it does not pick any more.
async fn picks(admin: &Port, address: &str) -> Option<u64> {
    let channels = http::get(admin.number(), "/debug/channels").await;
    let channels = channels.unwrap_or_default();
    let endpoints = channels["greeter"]["endpoints"].as_array()?;
    let endpoint = endpoints
        .iter()
        .find(|endpoint| endpoint["id"] == address)?;
    endpoint["picks"].as_u64()
}

/// An instance that is told to end tells the registry, and waits for `drain_notice`, a second by default, before it goes on.
#[tokio::test]
async fn an_instance_that_leaves_is_picked_no_more_within_a_second() {
    let etcd = Cluster::start_one().await.expect("an etcd");
    let mut fleet = Fleet::new(etcd.url("leaving")).expect("the binaries are built");
    fleet.set_env("DISCOVERY__SERVER__DRAIN_NOTICE", "10m");
    let greeters = fleet.add_many(4).await.expect("greeters");
    fleet.remove_env("DISCOVERY__SERVER__DRAIN_NOTICE");
    let admin = Port::free().expect("a port");
    fleet.set_env("DISCOVERY__ADMIN__LISTEN", &admin.address());
    let _client = fleet
        .client(&["--rate", "200", "--forever"])
        .expect("a client");
    // A machine that is busy with something else may take its time once, or twice.
    let mut soonest = Duration::MAX;
    for leaving in &greeters[1..] {
        eventually(BOUND, "calls to both", async || {
            picks(&admin, leaving).await > Some(0) && picks(&admin, &greeters[0]).await > Some(0)
        })
        .await;
        let told = Instant::now();
        fleet.signal(leaving, Signal::SIGTERM).expect("it runs");
        eventually(BOUND, "it is picked no more", async || {
            picks(&admin, leaving).await.is_none()
        })
        .await;
        soonest = soonest.min(told.elapsed());
        let still = fleet.signal(leaving, Signal::SIGKILL);
        still.expect("it runs on, and waits for whoever has not heard");
    }
    assert!(soonest < Duration::from_secs(1), "{soonest:?}");
}
