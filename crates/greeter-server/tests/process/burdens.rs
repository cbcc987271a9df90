//! Callers that send too much, read too little, or go away in the middle: no other call notices.

use std::time::Duration;

use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tokio::{runtime::Runtime, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};

use crate::running::{BOUND, connect, hello, runtime, start};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_message_of_64_mib_is_refused_and_its_memory_is_not_taken() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    // The connection speaks before this thread is busy for as long as that takes.
    server.greets("world").await;
    let huge = "x".repeat(64 * MIB);
    for _ in 0..3 {
        let refused = server.greeter().say_hello(hello(&huge)).await;
        assert_eq!(
            refused.expect_err("it is too large").code(),
            Code::ResourceExhausted
        );
    }
    server.greets("world").await;
    server.until_no_call_is_in_flight().await;
    assert!(server.resident() < 100, "{} MiB", server.resident());
}

/// Sends names of a MiB, and reads nothing, until the server takes no more.
async fn fill(channel: &Channel) -> (mpsc::Sender<HelloRequest>, impl Sized + use<>) {
    let (names, receiver) = mpsc::channel(1);
    names.send(hello("first")).await.expect("a caller");
    let mut greeter = GreeterClient::new(channel.clone());
    let replies = greeter
        .say_hello_bidi_stream(ReceiverStream::new(receiver))
        .await;
    let replies = replies.expect("a stream").into_inner();
    let large = hello(&"x".repeat(MIB));
    for _ in 0..100 {
        if timeout(Duration::from_millis(300), names.send(large.clone()))
            .await
            .is_err()
        {
            return (names, replies);
        }
    }
    panic!("the server took 100 MiB from a caller that reads nothing");
}

/// A caller as another process would be: when its runtime is gone, so are its sockets.
fn caller() -> Runtime {
    let mut caller = tokio::runtime::Builder::new_multi_thread();
    caller
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[tokio::test]
async fn a_slow_reader_is_held_back_and_stalls_nobody_else() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    let (caller, address) = (caller(), server.address.clone());
    let slow = caller.spawn(async move {
        let channel = connect(&address).await;
        let calls = [
            fill(&channel).await,
            fill(&channel).await,
            fill(&channel).await,
        ];
        (channel, calls)
    });
    let (channel, _calls) = slow.await.expect("three calls that are held back");
    let mut beside = GreeterClient::new(channel);
    let others = async {
        for _ in 0..100 {
            beside.say_hello(hello("world")).await.expect("a greeting");
            server.greets("world").await;
        }
    };
    timeout(BOUND, others)
        .await
        .expect("other calls go on, on the same connection and on another");
    assert!(server.resident() < 150, "{} MiB", server.resident());
    caller.shutdown_background();
    server.until_no_call_is_in_flight().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_in_the_middle_leaves_nothing_behind() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    for _ in 0..20 {
        let (names, receiver) = mpsc::channel(1);
        names.send(hello("world")).await.expect("a caller");
        let mut greeter = server.greeter();
        let replies = greeter
            .say_hello_bidi_stream(ReceiverStream::new(receiver))
            .await;
        drop(replies.expect("a stream"));
    }
    server.until_no_call_is_in_flight().await;
    server.greets("world").await;
}
