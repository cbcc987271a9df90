//! What a meter is told of a channel's calls and of the channel.

mod endpoints;

use std::sync::atomic::{AtomicUsize, Ordering};

use balance::{Channel, HashKey, WaitForReady};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::TextEncoder;
use tonic::Code;

use crate::{
    call, client, hello, peer::Peer, peer::greet, register, registry, server::Server, until,
    until_ready,
};

const SAY_HELLO: &str = "grpc_method=\"helloworld.Greeter/SayHello\"";
const RETRIES: &str = r#"{"methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 4, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1,
    "retryableStatusCodes": ["UNAVAILABLE"]}}]}"#;

/// A meter, and the page that shows what it was told.
struct Meters {
    page: prometheus::Registry,
    provider: SdkMeterProvider,
}

impl Meters {
    fn new() -> Self {
        let page = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter().with_registry(page.clone());
        let reader = exporter.build().expect("an exporter");
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        Self { page, provider }
    }

    fn channel(&self, target: &str) -> balance::Builder {
        Channel::builder(target).meter(&self.provider.meter("balance"))
    }

    fn text(&self) -> String {
        let text = TextEncoder::new().encode_to_string(&self.page.gather());
        text.expect("text")
    }

    /// The sum of the series of that name whose labels have all of these in them; `None` when there is none.
    fn figure(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.text();
        let fits = |line: &&str| {
            let named = line.strip_prefix(name);
            named.is_some_and(|rest| rest.starts_with('{'))
                && labels.iter().all(|label| line.contains(label))
        };
        let figures = text.lines().filter(fits).map(|line| {
            let figure = line.rsplit(' ').next().expect("a figure");
            figure.parse::<f64>().expect("a number")
        });
        figures.reduce(|sum, figure| sum + figure)
    }
}

fn status(code: &str) -> String {
    format!("grpc_status=\"{code}\"")
}

const ATTEMPTS: &str = "grpc_client_attempt_duration_seconds_count";
const CALLS: &str = "rpc_client_call_duration_seconds_count";

fn call_status(code: &str) -> String {
    format!("rpc_response_status_code=\"{code}\"")
}

#[tokio::test]
async fn calls_are_counted_with_what_they_came_to_and_how_much_went_over_the_wire() {
    let server = Server::start().await;
    let meters = Meters::new();
    let target = format!("static:///{}", server.address);
    let channel = meters.channel(&target).build().expect("a channel");
    call(&channel, "a").await.expect("an answer");
    call(&channel, "b").await.expect("an answer");
    let never = client(&channel).say_hello(hello("never")).await;
    assert_eq!(never.expect_err("refused").code(), Code::FailedPrecondition);
    let started = "grpc_client_attempt_started_total";
    let target = format!("grpc_target=\"{target}\"");
    assert_eq!(meters.figure(started, &[SAY_HELLO, &target]), Some(3.0));
    for (code, figure) in [("OK", 2.0), ("FAILED_PRECONDITION", 1.0)] {
        let attempts = [SAY_HELLO, &target, &status(code)];
        assert_eq!(meters.figure(ATTEMPTS, &attempts), Some(figure));
        let method = "rpc_method=\"helloworld.Greeter/SayHello\"";
        let calls = [method, &target, &call_status(code)];
        assert_eq!(meters.figure(CALLS, &calls), Some(figure));
    }
    let size = |way: &str| {
        let name = format!("grpc_client_attempt_{way}_total_compressed_message_size_bytes_sum");
        meters.figure(&name, &[SAY_HELLO, &status("OK")])
    };
    // A name of one letter is three bytes in protobuf.
    assert_eq!(size("sent"), Some(6.0));
    let reply = format!("Hello a from {}", server.address).len() + 2;
    assert_eq!(size("rcvd"), Some(2.0 * reply as f64));
}

#[tokio::test]
async fn a_streamed_request_is_counted_as_it_is_sent() {
    let server = Server::start().await;
    let meters = Meters::new();
    let target = format!("static:///{}", server.address);
    let channel = meters.channel(&target).build().expect("a channel");
    let (names, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut replies = client(&channel)
        .say_hello_bidi_stream(requests)
        .await
        .expect("a stream")
        .into_inner();
    for _ in 0..3 {
        let name = "four".into();
        let sent = names.send(proto::helloworld::HelloRequest { name }).await;
        sent.expect("it is read");
        replies.message().await.expect("no error").expect("a reply");
    }
    drop(names);
    assert!(replies.message().await.expect("no error").is_none());
    let name = "grpc_client_attempt_sent_total_compressed_message_size_bytes_sum";
    let method = "grpc_method=\"helloworld.Greeter/SayHelloBidiStream\"";
    assert_eq!(
        meters.figure(name, &[method, &status("OK")]),
        Some(3.0 * 6.0)
    );
}

#[tokio::test]
async fn retries_are_attempts_of_one_call() {
    let server = Server::start().await;
    let meters = Meters::new();
    let target = format!("static:///{}", server.address);
    let channel = meters.channel(&target).service_config(RETRIES);
    let channel = channel.build().expect("a channel");
    call(&channel, "third time").await.expect("the third time");
    assert_eq!(
        meters.figure(ATTEMPTS, &[&status("UNAVAILABLE")]),
        Some(2.0)
    );
    assert_eq!(meters.figure(ATTEMPTS, &[&status("OK")]), Some(1.0));
    assert_eq!(meters.figure(CALLS, &[]), Some(1.0));
    assert_eq!(meters.figure(CALLS, &[&call_status("OK")]), Some(1.0));
    assert_eq!(
        meters.figure("grpc_client_call_retries_sum", &[SAY_HELLO]),
        Some(2.0)
    );
    let delay = "grpc_client_call_retry_delay_seconds_sum";
    assert!(meters.figure(delay, &[SAY_HELLO]) > Some(0.0));
}

#[tokio::test]
async fn what_a_server_refused_unseen_is_a_transparent_retry() {
    let seen = std::sync::Arc::new(AtomicUsize::new(0));
    let peer = Peer::start(move |_, socket, address| {
        let seen = seen.clone();
        async move {
            let mut connection = crate::peer::handshake(socket).await;
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                if seen.fetch_add(1, Ordering::SeqCst) == 0 {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    greet(respond, "again", &address);
                }
            }
        }
    })
    .await;
    let meters = Meters::new();
    let target = format!("static:///{}", peer.address);
    let channel = meters.channel(&target).build().expect("a channel");
    call(&channel, "again").await.expect("the second time");
    let transparent = "grpc_client_call_transparent_retries_sum";
    assert_eq!(meters.figure(transparent, &[SAY_HELLO]), Some(1.0));
    assert_eq!(
        meters.figure(ATTEMPTS, &[&status("UNAVAILABLE")]),
        Some(1.0)
    );
    assert_eq!(meters.figure(ATTEMPTS, &[&status("OK")]), Some(1.0));
}

#[tokio::test]
async fn a_call_that_its_caller_or_its_deadline_ends_says_which() {
    let server = Server::start().await;
    let meters = Meters::new();
    let target = format!("static:///{}", server.address);
    let channel = meters.channel(&target).build().expect("a channel");
    let mut late = hello("forever");
    // Time enough to get to the server.
    late.set_timeout(std::time::Duration::from_secs(2));
    let late = client(&channel).say_hello(late).await;
    assert_eq!(late.expect_err("too late").code(), Code::DeadlineExceeded);
    let mut client = client(&channel);
    let given_up = tokio::spawn(async move { client.say_hello(hello("forever")).await });
    let calls = || server.seen.calls.load(Ordering::SeqCst);
    until("it is under way", || calls() == 2).await;
    given_up.abort();
    given_up.await.expect_err("it would have waited for ever");
    for code in ["DEADLINE_EXCEEDED", "CANCELLED"] {
        for (count, status) in [(ATTEMPTS, status(code)), (CALLS, call_status(code))] {
            assert_eq!(
                meters.figure(count, &[&status]),
                Some(1.0),
                "{count} {code}"
            );
        }
    }
}

#[tokio::test]
async fn a_channel_is_observed_for_as_long_as_it_lives() {
    let registry = registry();
    let (one, other) = (Server::start().await, Server::start().await);
    let first = register(&registry, &one.address).await;
    let _other = register(&registry, &other.address).await;
    let meters = Meters::new();
    let channel = meters.channel("greeter").measure_endpoints(true);
    let channel = channel.registry(&registry).build().expect("a channel");
    until_ready(&channel, 2).await;
    for _ in 0..4 {
        call(&channel, "a").await.expect("an answer");
    }
    let figure = |name: &str, labels: &[&str]| meters.figure(name, labels);
    assert_eq!(figure("balance_endpoints", &["state=\"READY\""]), Some(2.0));
    assert_eq!(figure("balance_instances", &[]), Some(2.0));
    assert_eq!(figure("grpc_subchannel_open_connections", &[]), Some(2.0));
    assert_eq!(figure("balance_list_staleness_seconds", &[]), Some(0.0));
    let id = format!("endpoint=\"{}\"", one.address);
    assert_eq!(figure("balance_endpoint_picks_total", &[&id]), Some(2.0));
    first.deregister().await.expect("it is gone");
    until("it is gone", || {
        figure("balance_endpoints", &[]) == Some(1.0)
    })
    .await;
    drop(channel);
    until("nothing is told of it", || {
        figure("balance_endpoints", &[]).is_none()
    })
    .await;
}

#[tokio::test]
async fn nothing_tells_endpoints_apart_unless_it_was_asked_for() {
    let server = Server::start().await;
    let meters = Meters::new();
    let registry = registry();
    let _registration = register(&registry, &server.address).await;
    let channel = meters.channel("greeter").registry(&registry);
    let channel = channel.build().expect("a channel");
    call(&channel, "a").await.expect("an answer");
    let text = meters.text();
    assert!(!text.contains(server.address.as_str()), "{text}");
}

#[tokio::test]
async fn a_call_that_waits_is_counted_as_queued() {
    let registry = registry();
    let meters = Meters::new();
    let channel = meters.channel("greeter").registry(&registry);
    let channel = channel.build().expect("a channel");
    let mut waiter = client(&channel);
    let mut request = crate::patient("a");
    request.extensions_mut().insert(HashKey(1));
    let waiting = tokio::spawn(async move { waiter.say_hello(request).await });
    let queued = || meters.figure("balance_calls_queued", &[]);
    until("it waits", || queued() == Some(1.0)).await;
    let server = Server::start().await;
    let _registration = register(&registry, &server.address).await;
    waiting.await.expect("runs").expect("an answer");
    assert_eq!(queued(), Some(0.0));
    assert_eq!(meters.figure("balance_calls_in_flight", &[]), Some(0.0));
}

#[tokio::test]
async fn an_attempt_lasts_from_before_its_endpoint_is_picked() {
    const WAIT: std::time::Duration = std::time::Duration::from_millis(200);
    let (registry, meters) = (registry(), Meters::new());
    let channel = meters.channel("greeter").registry(&registry);
    let channel = channel.build().expect("a channel");
    let mut request = hello("a");
    request.extensions_mut().insert(WaitForReady(true));
    let mut client = client(&channel);
    let answer = tokio::spawn(async move { client.say_hello(request).await });
    until("it waits", || channel.explain().calls_queued == 1).await;
    tokio::time::sleep(WAIT).await;
    let server = Server::start().await;
    let _registration = register(&registry, &server.address).await;
    answer.await.expect("no panic").expect("an answer");
    let took = meters.figure("grpc_client_attempt_duration_seconds_sum", &[SAY_HELLO]);
    assert!(
        took.is_some_and(|took| took >= WAIT.as_secs_f64()),
        "{took:?}"
    );
}
