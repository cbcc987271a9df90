//! The order of an instance's life, as callers, the registry and operators see it.

use std::time::Duration;

use crate::running::{BOUND, Running, config, start};
use proto::helloworld::HelloRequest;
use registry::{Instance, Status};
use testkit::eventually;
use tokio::time::{Instant, timeout};
use tonic::Code;
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
    config.server.drain_notice = Duration::from_secs(4);
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

#[tokio::test]
async fn user_code_that_is_not_ready_keeps_the_service_out_of_the_registry_until_it_is() {
    let mut running = start(config(), |readiness| {
        readiness.not_ready("the cache is empty");
    })
    .await;
    running.until_not_ready("the cache is empty").await;
    assert_eq!(health(&running, GREETER).await, ServingStatus::NotServing);
    assert_eq!(running.registered().await, None);

    running.readiness.ready();
    running.until_registered_as(Status::Serving).await;
    assert_eq!(health(&running, GREETER).await, ServingStatus::Serving);

    running.readiness.not_ready("the cache is gone");
    running.until_registered_as(Status::NotServing).await;
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
    let mut greeter = running.greeter();
    let stream = greeter
        .say_hello_stream_reply(HelloRequest::default())
        .await;
    let mut never_ends = stream.expect("a stream").into_inner();
    let mut greeter = running.greeter();
    let never_answered = tokio::spawn(async move {
        let name = "never".to_owned();
        greeter.say_hello(HelloRequest { name }).await
    });
    eventually(BOUND, "both calls in flight", async || {
        let metrics = running.telemetry.render().expect("metrics");
        metrics.lines().any(is_two_active)
    })
    .await;

    let asked = Instant::now();
    running.ask_to_end();
    running.ended().await.expect("an end, late");
    assert!(
        asked.elapsed() >= Duration::from_millis(500),
        "{:?}",
        asked.elapsed()
    );
    let told = [
        never_ends.message().await.expect_err("it was cut off"),
        never_answered
            .await
            .expect("no panic")
            .expect_err("it was cut off"),
    ];
    for status in told {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(
            status.message().contains("longer than the 500ms"),
            "{status}"
        );
    }
    let metrics = running.telemetry.render().expect("metrics");
    let counted = metrics.lines().filter(|line| {
        line.starts_with("rpc_server_call_duration_seconds_count")
            && line.contains("error_type=\"UNAVAILABLE\"")
    });
    assert_eq!(counted.count(), 2, "{metrics}");
}

fn is_two_active(line: &str) -> bool {
    line.starts_with("rpc_server_calls_active") && line.ends_with(" 2")
}

#[tokio::test]
async fn while_it_drains_a_service_still_answers() {
    let mut config = config();
    config.server.drain_notice = Duration::from_secs(4);
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
