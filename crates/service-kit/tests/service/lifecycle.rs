//! The order of an instance's life, as callers, the registry and operators see it.

use std::time::Duration;

use crate::{
    running::{BOUND, Running, config, start},
    server::until_active,
};
use proto::helloworld::{HelloReply, HelloRequest};
use registry::{Instance, Status};
use testkit::eventually;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::{Code, Response, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const GREETER: &str = "helloworld.Greeter";

async fn health(running: &Running, service: &str) -> ServingStatus {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut client = HealthClient::new(running.channel.clone());
    client
        .check(request)
        .await
        .expect("health answers")
        .into_inner()
        .status()
}

#[tokio::test]
async fn a_service_registers_when_it_serves_and_every_page_says_so() {
    let mut running = start(config(), |_| {}).await;
    running.until_registered_as(Status::Serving).await;
    for service in ["", GREETER] {
        assert_eq!(
            health(&running, service).await,
            ServingStatus::Serving,
            "{service:?}"
        );
    }
    eventually(BOUND, "readiness", async || running.ready().await.is_ok()).await;
    let metrics = running.telemetry.render().expect("metrics");
    let state =
        |line: &&str| line.starts_with("discovery_registration_state") && line.ends_with(" 1");
    let states: Vec<_> = metrics.lines().filter(state).collect();
    assert!(
        matches!(states[..], [held] if held.contains("\"held\"")),
        "{states:?}"
    );
    running.ask_to_end();
    running.ended().await.expect("an end in order");
    assert_eq!(running.registered().await, None);
}

#[tokio::test]
async fn callers_are_told_before_health_changes_and_health_before_the_end() {
    let mut config = config();
    config.server.drain_notice = Duration::from_secs(8);
    let mut running = start(config, |_| {}).await;
    running.until_registered_as(Status::Serving).await;
    let mut client = HealthClient::new(running.channel.clone());
    let request = HealthCheckRequest {
        service: GREETER.to_owned(),
    };
    let mut watch = client.watch(request).await.expect("a watch").into_inner();
    let first = watch
        .message()
        .await
        .expect("a state")
        .expect("the present one");
    assert_eq!(first.status(), ServingStatus::Serving);

    running.ask_to_end();
    running.until_registered_as(Status::Draining).await;
    assert_eq!(health(&running, GREETER).await, ServingStatus::Serving);
    running.until_not_ready("draining").await;

    let next = watch
        .message()
        .await
        .expect("a state")
        .expect("the next one");
    assert_eq!(next.status(), ServingStatus::NotServing);
    let end = timeout(BOUND, watch.message())
        .await
        .expect("the watch ends");
    assert!(end.expect("an end in order").is_none());
    running.ended().await.expect("an end in order");
    assert_eq!(running.registered().await, None);
}

/// The metric by which an instance says that it serves.
fn counted_as_serving(running: &Running) -> u64 {
    let metrics = running.telemetry.render().expect("metrics");
    let mut lines = metrics.lines();
    let line = lines.find(|line| line.starts_with("discovery_registered"));
    let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    number.expect("a number")
}

#[tokio::test]
async fn user_code_that_is_not_ready_keeps_the_service_out_of_the_registry_until_it_is() {
    let mut running = start(config(), |readiness| {
        readiness.not_ready("the cache is empty");
    })
    .await;
    running.until_not_ready("the cache is empty").await;
    assert_eq!(health(&running, GREETER).await, ServingStatus::NotServing);
    assert_eq!(running.registered().await, None);
    assert_eq!(counted_as_serving(&running), 0);

    running.readiness.ready();
    running.until_registered_as(Status::Serving).await;
    assert_eq!(health(&running, GREETER).await, ServingStatus::Serving);
    eventually(BOUND, "it is counted", async || {
        counted_as_serving(&running) == 1
    })
    .await;

    running.readiness.not_ready("the cache is gone");
    running.until_registered_as(Status::NotServing).await;
    assert_eq!(counted_as_serving(&running), 0);
    assert_eq!(health(&running, GREETER).await, ServingStatus::NotServing);
    running.until_not_ready("the cache is gone").await;

    running.readiness.ready();
    running.until_registered_as(Status::Serving).await;
    running.ask_to_end();
    running.ended().await.expect("an end in order");
}

#[tokio::test]
async fn a_service_that_never_was_ready_ends_without_having_registered() {
    let mut running = start(config(), |readiness| {
        readiness.not_ready("the cache is empty");
    })
    .await;
    running.ask_to_end();
    running.ended().await.expect("an end in order");
    assert_eq!(running.registered().await, None);
}

#[tokio::test]
async fn a_superseded_instance_serves_on_says_so_and_leaves_the_later_ones_key_alone() {
    let mut running = start(config(), |_| {}).await;
    running.until_registered_as(Status::Serving).await;
    let ours = running.registry.list(&running.name).await.expect("a list");
    let ours = ours.instances().next().expect("one").clone();
    let twin = Instance::new(running.name.clone(), ours.address().clone());
    let later = running.registry.register(twin, Duration::from_secs(10));

    running.until_not_ready("started later").await;
    assert_eq!(health(&running, GREETER).await, ServingStatus::Serving);
    running.ask_to_end();
    running.ended().await.expect("an end in order");
    assert_eq!(running.registered().await, Some(Status::Serving));
    later
        .deregister()
        .await
        .expect("the later one's key is its own");
}

#[tokio::test]
async fn a_call_in_flight_is_waited_for_and_is_told_when_its_time_is_over() {
    let mut config = config();
    config.server.drain_limit = Duration::from_millis(500);
    let mut running = start(config, |_| {}).await;
    running.until_registered_as(Status::Serving).await;
    let endless = Endless::begin(&running).await;
    until_active(&running, 2).await;

    let asked = Instant::now();
    running.ask_to_end();
    running.ended().await.expect("an end, late");
    assert!(
        asked.elapsed() >= Duration::from_millis(500),
        "{:?}",
        asked.elapsed()
    );
    for status in endless.told().await {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let message = status.message();
        assert!(message.contains("longer than the 500ms"), "{status}");
        assert!(message.contains("the instance stops"), "{status}");
    }
    until_two_are_counted_as_unavailable(&running).await;
}

#[tokio::test]
async fn a_call_on_an_aged_connection_is_told_when_its_time_is_over_and_others_go_on() {
    let mut config = config();
    config.server.drain_limit = Duration::from_millis(500);
    config.server.limits.connection_age = Some(Duration::from_secs(1));
    let running = start(config, |_| {}).await;
    let endless = Endless::begin(&running).await;
    for status in endless.told().await {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let message = status.message();
        assert!(message.contains("longer than the 500ms"), "{status}");
        assert!(message.contains("reached its age"), "{status}");
    }
    until_two_are_counted_as_unavailable(&running).await;
    let request = HelloRequest {
        name: "four".to_owned(),
    };
    let reply = running.greeter().say_hello(request).await;
    let reply = reply.expect("the service goes on").into_inner();
    assert_eq!(reply.message, "4");
}

/// A stream that never says anything, and a call that is never answered.
struct Endless {
    stream: Streaming<HelloReply>,
    call: JoinHandle<Result<Response<HelloReply>, tonic::Status>>,
}

impl Endless {
    async fn begin(running: &Running) -> Self {
        let (mut greeter, mut another) = (running.greeter(), running.greeter());
        let stream = greeter
            .say_hello_stream_reply(HelloRequest::default())
            .await;
        let name = "never".to_owned();
        Self {
            stream: stream.expect("a stream").into_inner(),
            call: tokio::spawn(async move { another.say_hello(HelloRequest { name }).await }),
        }
    }

    /// How each has ended.
    async fn told(self) -> [tonic::Status; 2] {
        let Self { mut stream, call } = self;
        let both = async {
            [
                stream.message().await.expect_err("it was cut off"),
                call.await.expect("no panic").expect_err("it was cut off"),
            ]
        };
        timeout(BOUND, both).await.expect("they end")
    }
}

async fn until_two_are_counted_as_unavailable(running: &Running) {
    eventually(BOUND, "two calls that were cut off", async || {
        let metrics = running.telemetry.render().expect("metrics");
        let counted = metrics.lines().filter(|line| {
            line.starts_with("rpc_server_call_duration_seconds_count")
                && line.contains("error_type=\"UNAVAILABLE\"")
                && line.ends_with(" 1")
        });
        counted.count() == 2
    })
    .await;
}

#[tokio::test]
async fn while_it_drains_a_service_still_answers() {
    let mut config = config();
    config.server.drain_notice = Duration::from_secs(8);
    let mut running = start(config, |_| {}).await;
    running.until_registered_as(Status::Serving).await;
    running.ask_to_end();
    running.until_registered_as(Status::Draining).await;
    let request = HelloRequest {
        name: "four".to_owned(),
    };
    let reply = running
        .greeter()
        .say_hello(request)
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(reply.message, "4");
    running.ended().await.expect("an end in order");
    let refused = running.greeter().say_hello(HelloRequest::default()).await;
    assert_eq!(refused.expect_err("it has ended").code(), Code::Unavailable);
}
