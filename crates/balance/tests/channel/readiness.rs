//! When calls wait, and when they fail.

use std::time::Duration;

use balance::{Channel, ConnectivityState, ResponseBody, WaitForReady};
use registry::{Address, Registry, ServiceName};
use tonic::Code;
use tower::Service;

use crate::{call, client, hello, patient, register, registry, server::Server, to_greeter};

/// An address that nobody listens at.
async fn nobody() -> Address {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    Address::from(listener.local_addr().expect("bound"))
}

#[tokio::test]
async fn without_an_instance_a_call_fails_and_says_why() {
    let channel = to_greeter(&registry());
    let status = call(&channel, "nobody").await.expect_err("nobody is there");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status
            .message()
            .contains("no instance of greeter in memory:"),
        "{status}"
    );
}

#[tokio::test]
async fn a_caller_that_tries_again_at_once_lets_its_thread_go() {
    let channel = to_greeter(&registry());
    let looping = async {
        for _ in 0..1_000_000 {
            call(&channel, "nobody").await.expect_err("nobody is there");
        }
    };
    let ended = tokio::time::timeout(Duration::from_millis(100), looping).await;
    assert!(
        ended.is_err(),
        "a million failures went by before the timer was looked at"
    );
}

#[tokio::test]
async fn a_call_that_waits_for_ready_is_answered_when_an_instance_comes() {
    let registry = registry();
    let channel = to_greeter(&registry);
    let request = patient("patience");
    let mut client = client(&channel);
    let waiting = tokio::spawn(async move { client.say_hello(request).await });
    let state = channel
        .wait_for_state_change(ConnectivityState::Connecting)
        .await;
    assert_eq!(state, ConnectivityState::TransientFailure);
    let server = Server::start().await;
    let _registration = register(&registry, &server.address).await;
    waiting.await.expect("runs").expect("an answer");
}

#[tokio::test]
async fn a_call_that_waits_for_ready_waits_no_longer_than_its_deadline() {
    let channel = to_greeter(&registry());
    let mut request = patient("impatience");
    request.set_timeout(Duration::from_millis(50));
    let status = client(&channel)
        .say_hello(request)
        .await
        .expect_err("nobody comes");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(
        status.message().contains("no instance of greeter"),
        "{status}"
    );
}

#[tokio::test]
async fn an_instance_that_cannot_be_reached_fails_calls_with_its_address_and_the_cause() {
    let registry = registry();
    let address = nobody().await;
    let _registration = register(&registry, &address).await;
    let channel = to_greeter(&registry);
    let status = call(&channel, "refused").await.expect_err("nobody listens");
    assert_eq!(status.code(), Code::Unavailable);
    let message = status.message();
    assert!(
        message.contains(address.as_str()) && message.contains("refused"),
        "{message}"
    );
}

#[tokio::test]
async fn an_instance_that_cannot_be_reached_keeps_no_call_from_another() {
    let registry = registry();
    let server = Server::start().await;
    let _dead = register(&registry, &nobody().await).await;
    let _live = register(&registry, &server.address).await;
    let channel = to_greeter(&registry);
    for _ in 0..50 {
        assert_eq!(
            call(&channel, "alive").await.expect("an answer"),
            server.address.as_str()
        );
    }
}

#[tokio::test]
async fn a_process_that_starts_again_at_its_address_is_called_without_waiting_for_a_backoff() {
    let registry = registry();
    let address = nobody().await;
    let early = register(&registry, &address).await;
    let channel = to_greeter(&registry);
    call(&channel, "early")
        .await
        .expect_err("nobody listens yet");
    let _server = Server::start_at(address.as_str()).await;
    let started = tokio::time::Instant::now();
    let _again = register(&registry, &address).await;
    let request = patient("again");
    client(&channel)
        .say_hello(request)
        .await
        .expect("an answer");
    assert!(
        started.elapsed() < Duration::from_millis(750),
        "took {:?}: a backoff was waited for",
        started.elapsed()
    );
    drop(early);
}

#[tokio::test]
async fn any_change_of_a_registration_ends_the_backoff() {
    let registry = registry();
    let address = nobody().await;
    let registration = register(&registry, &address).await;
    let channel = to_greeter(&registry);
    call(&channel, "early")
        .await
        .expect_err("nobody listens yet");
    let _server = Server::start_at(address.as_str()).await;
    let changed = tokio::time::Instant::now();
    registration
        .update(|instance| instance.with_label("ready", "yes"))
        .await;
    let request = patient("again");
    client(&channel)
        .say_hello(request)
        .await
        .expect("an answer");
    assert!(
        changed.elapsed() < Duration::from_millis(750),
        "took {:?}: a backoff was waited for",
        changed.elapsed()
    );
}

#[tokio::test]
async fn an_instance_that_comes_back_by_itself_is_found_within_the_cap_of_the_backoff() {
    let registry = registry();
    let address = nobody().await;
    let _registration = register(&registry, &address).await;
    let channel = to_greeter(&registry);
    call(&channel, "early")
        .await
        .expect_err("nobody listens yet");
    // Without the cap, the next try would be more than ten seconds away by then.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(50)).await;
    tokio::time::resume();
    let _server = Server::start_at(address.as_str()).await;
    let request = patient("back");
    let mut client = client(&channel);
    let answer = tokio::time::timeout(Duration::from_secs(5), client.say_hello(request));
    answer
        .await
        .expect("tried again in time")
        .expect("an answer");
}

#[tokio::test]
async fn calls_queue_until_the_registry_has_been_read() {
    #[derive(Debug)]
    struct Unread;
    impl registry::Store for Unread {
        fn url(&self) -> &'static str {
            "memory:unread"
        }
        fn hold(
            &self,
            _: registry::HoldRequest,
        ) -> futures_util::future::BoxFuture<
            '_,
            Result<Box<dyn registry::Hold>, registry::StoreError>,
        > {
            Box::pin(std::future::pending())
        }
        fn list<'a>(
            &'a self,
            _: &'a ServiceName,
        ) -> futures_util::future::BoxFuture<'a, Result<registry::Snapshot, registry::StoreError>>
        {
            Box::pin(std::future::pending())
        }
        fn watch(
            &self,
            _: &ServiceName,
        ) -> futures_util::stream::BoxStream<'static, Result<registry::Change, registry::StoreError>>
        {
            Box::pin(futures_util::stream::pending())
        }
        fn services(
            &self,
        ) -> futures_util::future::BoxFuture<'_, Result<Vec<ServiceName>, registry::StoreError>>
        {
            Box::pin(std::future::pending())
        }
    }
    let channel = Channel::builder("greeter")
        .registry(&Registry::new(Unread))
        .build()
        .expect("a channel");
    let mut request = hello("queued");
    request.set_timeout(Duration::from_millis(100));
    let status = client(&channel)
        .say_hello(request)
        .await
        .expect_err("the registry is never read");
    assert_eq!(
        status.code(),
        Code::DeadlineExceeded,
        "queued, not failed: {status}"
    );
    assert_eq!(channel.state(), ConnectivityState::Connecting);
}

#[tokio::test]
async fn a_call_that_waits_does_not_keep_the_channel_busy() {
    let mut channel = to_greeter(&registry());
    let mut request = http::Request::post("http://greeter/helloworld.Greeter/SayHello")
        .body(ResponseBody::default())
        .expect("a request");
    request.extensions_mut().insert(WaitForReady(true));
    let mut call = channel.call(request);
    let mut polls = 0;
    let waiting = std::future::poll_fn(|cx| {
        polls += 1;
        std::pin::Pin::new(&mut call).poll(cx)
    });
    assert!(
        tokio::time::timeout(Duration::from_secs(1), waiting)
            .await
            .is_err()
    );
    assert!(
        polls < 10,
        "woken {polls} times in a second in which nothing happened"
    );
}
