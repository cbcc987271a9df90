//! Health checks against tonic's health service, and against a peer that answers by a script.

use std::{future::Future, sync::Arc, time::Duration};

use registry::{Address, BackoffPolicy};
use tokio::{net::TcpListener, select, sync::mpsc, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic_health::{ServingStatus as Status, server::HealthReporter};

use super::{Health, HealthCheck, HealthCheckResponse, ServingStatus};
use crate::{
    status::Code,
    transport::{
        Connection,
        rpc::peer::{BOUND, connect_to, connected, end, given_up, head, open, refuse, send},
    },
};

fn check(service: &str) -> HealthCheck {
    let backoff = BackoffPolicy {
        initial: Duration::from_millis(2),
        ..BackoffPolicy::GRPC
    };
    HealthCheck::new(service, head(), backoff)
}

/// Runs a check while `during` looks at what it tells.
async fn checked<F: Future>(
    check: &HealthCheck,
    connection: &Arc<Connection>,
    during: impl FnOnce(mpsc::UnboundedReceiver<Health>) -> F,
) -> F::Output {
    let (tell, told) = mpsc::unbounded_channel();
    let running = check.run(connection, move |health| tell.send(health).expect("heard"));
    select! {
        never = running => match never {},
        output = timeout(BOUND, during(told)) => output.expect("in time"),
    }
}

fn not_serving(health: Option<Health>) -> String {
    match health {
        Some(Health::NotServing(why)) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn tonic_health() -> (HealthReporter, Address, AbortOnDropHandle<()>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = Address::from(listener.local_addr().expect("bound"));
    let serving = async move {
        let incoming = TcpListenerStream::new(listener);
        let server = Server::builder().add_service(service);
        server.serve_with_incoming(incoming).await.expect("serves");
    };
    (
        reporter,
        address,
        AbortOnDropHandle::new(tokio::spawn(serving)),
    )
}

#[tokio::test]
async fn a_servers_health_is_followed_as_it_changes() {
    let (reporter, address, _server) = tonic_health().await;
    reporter
        .set_service_status("greeter", Status::Serving)
        .await;
    let connection = connect_to(address).await;
    checked(&check("greeter"), &connection, |mut told| async move {
        assert_eq!(told.recv().await, Some(Health::Serving));
        reporter
            .set_service_status("greeter", Status::NotServing)
            .await;
        let why = not_serving(told.recv().await);
        assert_eq!(why, "the server says NOT_SERVING of \"greeter\"");
        reporter
            .set_service_status("greeter", Status::Unknown)
            .await;
        let why = not_serving(told.recv().await);
        assert_eq!(why, "the server says UNKNOWN of \"greeter\"");
        reporter
            .set_service_status("greeter", Status::Serving)
            .await;
        assert_eq!(told.recv().await, Some(Health::Serving));
    })
    .await;
}

#[tokio::test]
async fn the_empty_name_asks_for_the_server_as_a_whole() {
    let (_reporter, address, _server) = tonic_health().await;
    let connection = connect_to(address).await;
    checked(&check(""), &connection, |mut told| async move {
        assert_eq!(told.recv().await, Some(Health::Serving));
    })
    .await;
}

#[tokio::test]
async fn a_service_that_the_server_does_not_know_is_not_serving() {
    let (_reporter, address, _server) = tonic_health().await;
    let connection = connect_to(address).await;
    // tonic-health ends the watch of a name that it does not know.
    checked(&check("stranger"), &connection, |mut told| async move {
        let why = not_serving(told.recv().await);
        assert!(why.contains("NOT_FOUND"), "{why}");
    })
    .await;
    let (connection, _peer) = connected(|_, _, mut respond| async move {
        let mut stream = open(&mut respond);
        say(&mut stream, ServingStatus::ServiceUnknown as i32);
        given_up(&mut stream).await;
    })
    .await;
    checked(&check("stranger"), &connection, |mut told| async move {
        let why = not_serving(told.recv().await);
        assert_eq!(why, "the server says SERVICE_UNKNOWN of \"stranger\"");
    })
    .await;
}

fn say(stream: &mut h2::SendStream<bytes::Bytes>, status: i32) {
    send(stream, &HealthCheckResponse { status });
}

#[tokio::test]
async fn a_server_without_health_checks_is_healthy_for_good() {
    let (asked, mut ask) = mpsc::unbounded_channel();
    let (connection, _peer) = connected(move |number, _, mut respond| {
        asked.send(number).expect("the test waits");
        async move { refuse(&mut respond, Code::Unimplemented) }
    })
    .await;
    checked(&check("greeter"), &connection, |mut told| async move {
        assert_eq!(told.recv().await, Some(Health::Serving));
        assert_eq!(ask.recv().await, Some(0));
        // Paused, the clock goes to the next timer: to a second call's, if there were one.
        tokio::time::pause();
        let more = timeout(BOUND / 2, ask.recv()).await;
        assert!(more.is_err(), "{more:?}");
        assert!(told.is_empty());
        tokio::time::resume();
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_ends_is_not_serving_until_the_server_says_otherwise() {
    let (connection, _peer) = connected(|number, request, mut respond| async move {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Watch");
        if number == 1 {
            return refuse(&mut respond, Code::Unavailable);
        }
        let mut stream = open(&mut respond);
        say(&mut stream, ServingStatus::Serving as i32);
        if number == 0 {
            return end(&mut stream, Code::Ok);
        }
        // The same again is no change.
        say(&mut stream, ServingStatus::Serving as i32);
        say(&mut stream, 99);
        given_up(&mut stream).await;
    })
    .await;
    checked(&check("greeter"), &connection, |mut told| async move {
        assert_eq!(told.recv().await, Some(Health::Serving));
        let why = not_serving(told.recv().await);
        assert!(why.contains("ended with OK"), "{why}");
        let why = not_serving(told.recv().await);
        assert!(why.contains("ended with UNAVAILABLE"), "{why}");
        assert_eq!(told.recv().await, Some(Health::Serving));
        let why = not_serving(told.recv().await);
        assert!(why.contains("UNKNOWN"), "{why}");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_told_of_a_connection_that_breaks() {
    let (connection, peer) = connected(|_, _, mut respond| async move {
        let mut stream = open(&mut respond);
        say(&mut stream, ServingStatus::Serving as i32);
        given_up(&mut stream).await;
    })
    .await;
    let closed = connection.closed();
    checked(&check("greeter"), &connection, |mut told| async move {
        assert_eq!(told.recv().await, Some(Health::Serving));
        drop(peer);
        closed.await;
        // The check has seen it by then, too.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(told.is_empty());
    })
    .await;
}
