//! What a command that goes on tells of itself: the admin page, and what is sent to a collector.

use std::{fs, net::TcpListener};

use serde_json::json;
use testkit::{
    Port, Signal,
    etcd::Cluster,
    eventually, http,
    otlp::{Collector, drawn},
    process::Process,
    prometheus::promtool,
};

use crate::{
    place::{BOUND, Place, end, instance},
    registering::FAST,
};

/// Our own greeter, which says on the environment's admin page how it is.
const SERVER: [&str; 3] = ["--", env!("CARGO_BIN_EXE_discovery"), "server"];

/// Waits until a page of an admin page tells that; of one that is refused, that is in the refusal.
async fn until_told(port: &Port, path: &str, text: &str) {
    let told = async || match http::text(port.number(), path).await {
        Ok(told) => told.contains(text),
        Err(refused) => format!("{refused:#}").contains(text),
    };
    eventually(BOUND, &format!("{text:?} at {path}"), told).await;
}

/// What the page says of a metric, with that in its labels.
fn value(page: &str, name: &str, label: &str) -> Option<f64> {
    let mut lines = page.lines();
    let line = lines.find(|line| line.starts_with(name) && line.contains(label))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn the_page_is_ready_while_the_instance_is_registered_and_says_why_it_is_not() {
    let place = Place::directory();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("healthy");
    let check = format!("exec=test -e {}", file.display());
    let port = Port::free().expect("a port");
    let register = ["register", "web", "10.0.0.7:8080", "--check", &check];
    let admin = ["--admin", &port.address()];
    let process = place.start(&[&register[..], &FAST, &admin].concat());
    let at = format!("admin page at http://{}/", port.address());
    let said = process.wait_for_line(&at, BOUND).await;
    said.expect("it says where the page is");
    until_told(&port, "/readyz", "not ready: not registered: ").await;
    until_told(&port, "/readyz", "test -e").await;
    until_told(&port, "/metrics", "\ndiscovery_registered{").await;
    fs::write(&file, "").expect("a file");
    until_told(&port, "/readyz", "ready\n").await;
    let ready = http::text(port.number(), "/readyz").await;
    assert_eq!(ready.expect("it is ready"), "ready\n");
    let page = http::text(port.number(), "/metrics").await.expect("a page");
    let told = |name: &str, label: &str| {
        value(&page, name, label).unwrap_or_else(|| panic!("no {name} with {label} in {page}"))
    };
    assert!(told("discovery_registered{", "") >= 1.0);
    assert!(told("discovery_registration_state{", r#"state="held""#) >= 1.0);
    let checks = "discovery_check_duration_seconds_count{";
    for outcome in [r#"outcome="failed""#, r#"outcome="passed""#] {
        assert!(told(checks, outcome) >= 1.0);
    }
    for name in [
        "discovery_undecodable_total{",
        "discovery_refused_files_total{",
        "process_open_fds{",
        "tokio_workers{",
    ] {
        told(name, "");
    }
    let lint = promtool(&["check", "metrics"], &page).await;
    assert_eq!(lint.expect("promtool finds no fault"), "");
    let level = http::text(port.number(), "/admin/log-level").await;
    assert_eq!(level.expect("a level"), "warn\n");

    fs::remove_file(&file).expect("it is there");
    until_told(&port, "/readyz", "503").await;
    until_told(&port, "/readyz", "test -e").await;
    let page = http::text(port.number(), "/metrics").await.expect("a page");
    assert_eq!(value(&page, "discovery_registered{", ""), Some(0.0));
    let lives = http::text(port.number(), "/healthz").await;
    assert_eq!(lives.expect("it lives"), "alive\n");
    process.signal(Signal::SIGTERM).expect("it runs");
    assert_eq!(end(&process).await.code, Some(0));
}

#[tokio::test]
async fn the_port_that_the_environment_names_is_left_to_the_command() {
    let place = Place::directory();
    let (own, command_s) = (Port::free().expect("a port"), Port::free().expect("a port"));
    let listen = Port::free().expect("a port").address();
    let server = ["--listen", &listen];
    for admin in [&[][..], &["--admin", &own.address()]] {
        let register = ["register", "web", &listen, "--id", "beside"];
        let arguments = [&register[..], &FAST, admin, &SERVER, &server].concat();
        let mut command = place.command(&arguments);
        command.env("DISCOVERY__ADMIN__LISTEN", command_s.address());
        command.env("DISCOVERY__REGISTRY__URL", &place.url);
        let process = Process::spawn("discovery register", command).expect("it starts");
        until_told(&command_s, "/metrics", "\nrpc_server_calls_active{").await;
        if !admin.is_empty() {
            until_told(&own, "/readyz", "ready\n").await;
            let page = http::text(own.number(), "/metrics").await.expect("a page");
            assert!(!page.contains("rpc_server_"), "{page}");
        }
        process.signal(Signal::SIGTERM).expect("it runs");
        assert_eq!(end(&process).await.code, Some(0));
    }
}

#[tokio::test]
async fn a_collector_is_told_of_the_registration_and_of_the_calls_of_its_checks() {
    let collector = Collector::start().await.expect("a collector");
    let place = Place::directory();
    let listen = Port::free().expect("a port").address();
    let register = [
        "register", "web", &listen, "--id", "beside", "--check", "grpc",
    ];
    let silent = ["--", "env", "OTEL_SDK_DISABLED=true"];
    let server = [&SERVER[1..], &["--listen", &listen]].concat();
    let mut command = place.command(&[&register[..], &FAST, &silent, &server].concat());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    command.env("DISCOVERY__TRACE__SAMPLE_RATIO", "1");
    command.env("DISCOVERY__REGISTRY__URL", &place.url);
    let process = Process::spawn("discovery register", command).expect("it starts");
    let said = process
        .wait_for_line("web/beside is registered", BOUND)
        .await;
    said.expect("it says so");
    process.signal(Signal::SIGTERM).expect("it runs");
    assert_eq!(end(&process).await.code, Some(0));
    // What was not due yet was handed over at the end.
    let metrics = collector.metrics("discovery");
    let names: Vec<_> = metrics.iter().map(|metric| &*metric.name).collect();
    for name in [
        "discovery.registered",
        "discovery.check.duration",
        "discovery.undecodable",
        "process.open_fds",
    ] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    let traces: Vec<_> = collector
        .traces()
        .iter()
        .map(|trace| drawn(trace))
        .collect();
    let attempt = "  discovery INTERNAL Attempt.grpc.health.v1.Health/Check OK";
    let check = [
        "discovery CLIENT grpc.health.v1.Health/Check OK".to_owned(),
        format!("{attempt} by {listen} (round_robin)"),
    ];
    assert!(traces.iter().any(|trace| *trace == check), "{traces:#?}");
}

#[tokio::test]
async fn who_follows_the_registry_has_a_page_once_that_has_begun() {
    let place = Place::directory();
    let _registration = place.register(instance("web", "10.0.0.7:8080")).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("web.json").display().to_string();
    let every = ["export", "--file", &file, "--every", "1h"];
    for follows in [&["watch", "web"][..], &every] {
        let port = Port::free().expect("a port");
        let process = place.start(&[follows, &["--admin", &port.address()]].concat());
        until_told(&port, "/readyz", "ready\n").await;
        let page = http::text(port.number(), "/metrics").await.expect("a page");
        assert!(page.contains("\ndiscovery_undecodable_total"), "{page}");
        assert!(!page.contains("discovery_registered"), "{page}");
        let lint = promtool(&["check", "metrics"], &page).await;
        assert_eq!(lint.expect("promtool finds no fault"), "");
        process.signal(Signal::SIGTERM).expect("it runs");
        assert_eq!(end(&process).await.code, Some(0));
    }
    let written = fs::read_to_string(&file).expect("a file");
    let written: serde_json::Value = serde_json::from_str(&written).expect("JSON");
    assert_eq!(written["services"][0]["service"], json!("web"));
}

#[tokio::test]
async fn who_holds_what_it_imports_has_a_page_that_is_ready_while_all_is_held() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path");
    let web = json!({"id": "10.0.0.7:8080", "addresses": ["10.0.0.7:8080"]});
    let exported = json!({"v": 1, "services": [{"service": "web", "instances": [web]}]});
    fs::write(&file, exported.to_string()).expect("a file");
    let mut cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("web"));
    let port = Port::free().expect("a port");
    let import = ["import", "--hold", path, "--admin", &port.address()];
    let process = place.start(&import);
    until_told(&port, "/readyz", "ready\n").await;
    until_told(&port, "/metrics", "\ndiscovery_undecodable_total").await;
    cluster.stop_all().await.expect("it is killed");
    until_told(&port, "/readyz", "not ready: 1 of 1 instance not held").await;
    cluster.start_all().await.expect("it is started");
    until_told(&port, "/readyz", "ready\n").await;
    process.signal(Signal::SIGTERM).expect("it runs");
    assert_eq!(end(&process).await.code, Some(0));
}

#[tokio::test]
async fn a_page_that_cannot_be_had_is_refused_before_anything_is_started() {
    let place = Place::directory();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("an address").to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let started = directory.path().join("started");
    let touch = ["--", "touch", started.to_str().expect("a path")];
    let register = ["register", "web", "10.0.0.7:8080", "--admin"];
    let line = place
        .refusal(&[&register[..], &[&at], &touch].concat())
        .await;
    assert!(line.contains(&at), "{line}");
    assert!(!started.exists(), "it is not started for nothing");
    let file = directory.path().join("registry.json");
    let intent = json!({"id": "10.0.0.7:8080", "weight": 3});
    let exported = json!({"v": 1, "services": [{"service": "web", "intents": [intent]}]});
    fs::write(&file, exported.to_string()).expect("a file");
    let file = file.to_str().expect("a path");
    let line = place
        .refusal(&["import", "--hold", file, "--admin", &at])
        .await;
    assert!(line.contains(&at), "{line}");
    let intents = place.json(&["intents"]).await;
    assert_eq!(
        intents["intents"],
        json!([]),
        "nothing is written for nothing"
    );
    for wrong in [
        &[&register[..], &["here"]].concat()[..],
        &["export", "--admin", "127.0.0.1:0"],
        &["list", "web", "--admin", "127.0.0.1:0"],
        &["import", "--admin", "127.0.0.1:0"],
    ] {
        assert_eq!(place.run(wrong).await.code, Some(2), "{wrong:?}");
    }
}
