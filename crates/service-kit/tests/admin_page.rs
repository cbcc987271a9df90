//! The admin page, asked over HTTP as an operator would.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use service_kit::{
    Admin, AdminServer, Telemetry, admin,
    config::{AdminConfig, AdminListen},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

async fn get(server: &AdminServer, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address())
        .await
        .expect("the admin page");
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head
        .split(' ')
        .nth(1)
        .expect("a status")
        .parse()
        .expect("a number");
    (status, body.to_owned())
}

async fn serve(admin: Admin) -> AdminServer {
    let server = admin
        .serve(&AdminConfig::default())
        .await
        .expect("a free port");
    server.expect("it is on")
}

fn page() -> Admin {
    Admin::new(Telemetry::metrics_only().expect("metrics"))
}

#[tokio::test]
async fn the_index_lists_every_page_and_every_page_answers() {
    let server = serve(page()).await;
    let (status, index) = get(&server, "/").await;
    assert_eq!(status, 200);
    for path in ["/metrics", "/healthz", "/readyz", "/debug/channels"] {
        assert!(index.contains(path), "{index}");
        assert_eq!(get(&server, path).await.0, 200, "{path}");
    }
    assert_eq!(get(&server, "/nothing").await.0, 404);
}

#[tokio::test]
async fn metrics_are_those_of_the_telemetry() {
    let telemetry = Telemetry::metrics_only().expect("metrics");
    telemetry
        .meter("test")
        .u64_counter("greetings")
        .build()
        .add(3, &[]);
    let (_, text) = get(&serve(Admin::new(telemetry)).await, "/metrics").await;
    assert!(
        text.contains("greetings_total") && text.contains(" 3"),
        "{text}"
    );
    assert!(text.contains("process_start_time_seconds"), "{text}");
}

#[tokio::test]
async fn readiness_is_asked_anew_and_says_why_not() {
    let ready = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&ready);
    let state = move || {
        asked
            .load(Ordering::Relaxed)
            .then_some(())
            .ok_or("still warming up".into())
    };
    let server = serve(page().ready(state)).await;
    let (status, body) = get(&server, "/readyz").await;
    assert_eq!(
        (status, body.as_str()),
        (503, "not ready: still warming up\n")
    );
    let refused = admin::check(AdminListen::At(server.address())).await;
    assert!(
        refused
            .expect_err("not ready")
            .to_string()
            .contains("still warming up")
    );

    ready.store(true, Ordering::Relaxed);
    assert_eq!(get(&server, "/readyz").await.0, 200);
    let accepted = admin::check(AdminListen::At(server.address())).await;
    assert_eq!(accepted.expect("ready"), "ready\n");
}

#[tokio::test]
async fn channels_are_shown_by_name() {
    let server = serve(page().channel("greeter", || json!({"state": "READY"}))).await;
    let (_, body) = get(&server, "/debug/channels").await;
    let shown: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(shown, json!({"greeter": {"state": "READY"}}));
}

#[tokio::test]
async fn switched_off_it_listens_nowhere() {
    let off = AdminConfig {
        listen: AdminListen::Off,
    };
    assert!(page().serve(&off).await.expect("nothing to fail").is_none());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("an address");
    let config = AdminConfig {
        listen: AdminListen::At(address),
    };
    let error = page()
        .serve(&config)
        .await
        .expect_err("the port is taken")
        .to_string();
    assert!(
        error.contains(&address.to_string()) && error.contains("admin.listen"),
        "{error}"
    );
}

#[tokio::test]
async fn a_health_check_needs_something_to_ask() {
    let free: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    for (listen, part) in [
        (AdminListen::Off, "off"),
        (AdminListen::At(free), "fixed port"),
    ] {
        let error = admin::check(listen)
            .await
            .expect_err("nothing to ask")
            .to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_health_check_of_what_is_not_there_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let gone = listener.local_addr().expect("an address");
    drop(listener);
    let error = admin::check(AdminListen::At(gone))
        .await
        .expect_err("nobody listens");
    assert!(error.to_string().contains(&gone.to_string()), "{error}");
}
