//! How it ends, and what becomes of the calls that it has.

use registry::Status;
use testkit::{
    Port, Signal,
    etcd::Cluster,
    eventually,
    frames::{Call, Caller, message},
    process::Process,
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::running::{
    BOUND, Running, command, greeters, hello, registry_of, runtime, spawn, start,
};

/// gRPC's statuses on the wire.
const OK: &str = "0";
const UNAVAILABLE: &str = "14";
/// RFC 9113, section 7: with which error code of HTTP/2 a server says that it goes of itself.
const NO_ERROR: u32 = 0;

#[tokio::test]
async fn either_signal_deregisters_and_exits_with_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let runtime = runtime();
        let mut command = command(runtime.path(), &[]);
        // Long enough for a look at it on a busy machine.
        command.env("DISCOVERY__SERVER__DRAIN_NOTICE", "8s");
        let server = spawn(command).await;
        let registry = registry_of(&runtime);
        eventually(BOUND, "the greeter", async || {
            greeters(&registry).await == [(server.address.clone(), Status::Serving)]
        })
        .await;
        server.process.signal(signal).expect("it runs");
        eventually(BOUND, "draining", async || {
            greeters(&registry).await == [(server.address.clone(), Status::Draining)]
        })
        .await;
        server.greets("while it drains").await;
        let status = server.process.wait(BOUND).await.expect("it ends");
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(greeters(&registry).await, []);
    }
}

#[tokio::test]
async fn a_stream_in_flight_is_finished_before_the_server_ends() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    let (names, receiver) = mpsc::channel(1);
    names.send(hello("before")).await.expect("a caller");
    let replies = server
        .greeter()
        .say_hello_bidi_stream(ReceiverStream::new(receiver))
        .await;
    let mut replies = replies.expect("a stream").into_inner();
    replies
        .message()
        .await
        .expect("a greeting")
        .expect("the first");

    server.process.signal(Signal::SIGTERM).expect("it runs");
    let registry = registry_of(&runtime);
    eventually(BOUND, "an empty registry", async || {
        greeters(&registry).await.is_empty()
    })
    .await;
    names
        .send(hello("after"))
        .await
        .expect("the stream is open");
    let reply = replies
        .message()
        .await
        .expect("a greeting")
        .expect("the second");
    assert_eq!(
        reply.message,
        format!("Hello after from {}", server.address)
    );
    assert!(
        server.process.try_wait().is_none(),
        "it waits for the stream"
    );

    drop(names);
    assert!(replies.message().await.expect("an end in order").is_none());
    let status = server.process.wait(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
}

/// A stream on a connection of its own, of which the server has begun to take what is said.
async fn streaming(server: &Running) -> (Caller, Call) {
    let address = server.address.parse().expect("an address");
    let mut caller = Caller::connect(address).await.expect("it listens");
    let method = "helloworld.Greeter/SayHelloBidiStream";
    let mut stream = caller.call(method).await.expect("a stream");
    stream.say(message(0, &[]));
    server.until_in_flight(1).await;
    (caller, stream)
}

async fn until_told_to_go(caller: &Caller) {
    eventually(BOUND, "GOAWAY", async || {
        let told = caller.told_to_go().await.expect("the connection lives");
        assert!(told.is_none_or(|code| code == NO_ERROR), "{told:?}");
        told.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_told_to_go_once_the_registry_has_let_go_and_its_stream_goes_on() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    let registry = registry_of(&runtime);
    eventually(BOUND, "the greeter", async || {
        greeters(&registry).await == [(server.address.clone(), Status::Serving)]
    })
    .await;
    let (mut caller, mut stream) = streaming(&server).await;
    let told = caller.told_to_go().await.expect("the connection lives");
    assert_eq!(told, None, "nobody is sent away while it serves");

    server.process.signal(Signal::SIGTERM).expect("it runs");
    until_told_to_go(&caller).await;
    assert_eq!(greeters(&registry).await, []);
    let another = caller.call("helloworld.Greeter/SayHello").await;
    another.expect_err("no call begins on it any more");
    assert!(server.process.try_wait().is_none(), "it waits");

    stream.end(message(0, &[]));
    assert_eq!(stream.status().await.expect("an end in order"), OK);
    let status = server.process.wait(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_stream_that_outlives_the_limit_is_told_so_and_the_process_ends_in_order() {
    let runtime = runtime();
    let mut command = command(runtime.path(), &[]);
    command.env("DISCOVERY__SERVER__DRAIN_LIMIT", "1s");
    let server = spawn(command).await;
    let (caller, mut stream) = streaming(&server).await;
    server.process.signal(Signal::SIGTERM).expect("it runs");
    until_told_to_go(&caller).await;
    assert_eq!(stream.status().await.expect("it is told"), UNAVAILABLE);
    let status = server.process.wait(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_connection_that_never_says_a_word_does_not_hold_up_the_end() {
    let runtime = runtime();
    let mut command = command(runtime.path(), &[]);
    command.env("DISCOVERY__SERVER__DRAIN_LIMIT", "5m");
    let server = spawn(command).await;
    let _silent = TcpStream::connect(&server.address)
        .await
        .expect("it listens");
    server.greets("world").await;
    let status = server.process.terminate(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn nobody_is_given_notice_by_a_server_that_never_was_in_the_registry() {
    let runtime = runtime();
    let nobody = Port::free().expect("a port");
    let url = format!("etcd://127.0.0.1:{nobody}");
    let mut command = command(runtime.path(), &["--registry", &url]);
    command.env("DISCOVERY__SERVER__DRAIN_NOTICE", "5m");
    let server = spawn(command).await;
    let status = server.process.terminate(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_registry_that_has_gone_does_not_hold_up_the_end() {
    let runtime = runtime();
    let mut etcd = Cluster::start_one().await.expect("an etcd");
    let server = start(&runtime, &["--registry", &etcd.url("shop")]).await;
    server
        .process
        .wait_for_line("registered", BOUND)
        .await
        .expect("it registers");
    // It hangs: nothing is refused, and nothing is answered.
    etcd.pause(0).expect("it runs");
    let status = server.process.terminate(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
    etcd.kill(0).await.expect("it is killed");
}

#[tokio::test]
async fn a_server_is_in_every_dialect_and_while_it_drains_in_those_that_can_say_so() {
    let runtime = runtime();
    let etcd = Cluster::start_one().await.expect("an etcd");
    let mut command = command(runtime.path(), &["--registry", &etcd.url("")]);
    command
        .env("DISCOVERY__REGISTRY__DIALECTS", "etcd,kratos=/fleet")
        .env("DISCOVERY__SERVER__DRAIN_NOTICE", "5m");
    let server = spawn(command).await;
    let key = async |key: &str| {
        let key = key.to_owned() + &server.address;
        let found = etcd
            .etcdctl_text(&["get", "--print-value-only", &key])
            .await;
        found.expect("etcdctl works")
    };
    let endpoint = format!("grpc://{}?isSecure=false", server.address);
    eventually(BOUND, "the server in kratos' form", async || {
        key("/fleet/greeter/").await.contains(&endpoint)
    })
    .await;
    assert!(key("greeter/").await.contains(&server.address));

    server.process.signal(Signal::SIGTERM).expect("it runs");
    eventually(BOUND, "no server in kratos' form", async || {
        key("/fleet/greeter/").await.is_empty()
    })
    .await;
    assert!(key("greeter/").await.contains("draining"));
}

#[tokio::test]
async fn a_signal_that_comes_with_the_first_line_ends_it_in_order() {
    let runtime = runtime();
    for _ in 0..5 {
        let mut command = command(runtime.path(), &[]);
        command.env("DISCOVERY__SERVER__DRAIN_NOTICE", "0s");
        let server = Process::spawn("greeter-server", command).expect("it starts");
        server
            .wait_for("a line", |_| true, BOUND)
            .await
            .expect("a line");
        let status = server.terminate(BOUND).await.expect("it ends");
        assert_eq!(status.code(), Some(0));
    }
    assert_eq!(greeters(&registry_of(&runtime)).await, []);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_says_what_that_cost() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    let (names, receiver) = mpsc::channel(1);
    names.send(hello("world")).await.expect("a caller");
    let replies = server
        .greeter()
        .say_hello_bidi_stream(ReceiverStream::new(receiver))
        .await;
    let mut replies = replies.expect("a stream").into_inner();
    replies
        .message()
        .await
        .expect("a greeting")
        .expect("the first");

    server.process.signal(Signal::SIGTERM).expect("it runs");
    server
        .process
        .wait_for_line("draining", BOUND)
        .await
        .expect("it has heard");
    server.process.signal(Signal::SIGINT).expect("it runs");
    let status = server.process.wait(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(1));
    let line = server
        .process
        .wait_for_line("a second SIGINT", BOUND)
        .await
        .expect("a line");
    assert!(line.contains("1 calls cut off"), "{line}");
}
