//! What a meter is told of endpoints: their connections, where they are, and what they weigh.

use balance::OptionalLabel;
use registry::{Instance, Zone};
use tokio::net::TcpStream;

use super::Meters;
use crate::{
    call, client,
    frames::{Asked, GOAWAY, Script, Wire, frame},
    greeter, hello,
    load_reports::{calling, reporting},
    patient,
    peer::Peer,
    register_as, registry,
    server::Server,
    until,
};

const SUCCEEDED: &str = "grpc_subchannel_connection_attempts_succeeded_total";
const FAILED: &str = "grpc_subchannel_connection_attempts_failed_total";
const DISCONNECTIONS: &str = "grpc_subchannel_disconnections_total";

/// A server whose connections end at the word of a caller.
async fn leaving() -> Peer {
    async fn serve(socket: TcpStream, address: registry::Address) -> std::io::Result<()> {
        let mut wire = Wire::open(socket).await?;
        loop {
            let Asked { stream, names } = wire.asked().await?;
            let name = names[0].as_str();
            if name == "leave" {
                return Ok(());
            }
            wire.write(Script::on(stream).greets(name, &address))
                .await?;
            if name == "calm" {
                // The last stream id, and ENHANCE_YOUR_CALM.
                let payload = [stream.to_be_bytes(), [0, 0, 0, 11]].concat();
                wire.raw(&frame(GOAWAY, 0, 0, &payload)).await?;
            }
        }
    }
    Peer::start(|_, socket, address| async move {
        let _gone = serve(socket, address).await;
    })
    .await
}

#[tokio::test]
async fn each_connection_is_counted_when_it_begins_and_when_it_ends_with_the_reason() {
    let peer = leaving().await;
    let meters = Meters::new();
    let target = format!("static:///{}", peer.address);
    let labels = [OptionalLabel::DisconnectError, OptionalLabel::SecurityLevel];
    let channel = meters.channel(&target).optional_labels(labels);
    let channel = channel.build().expect("a channel");
    let ended = |why: &str| {
        let why = format!("grpc_disconnect_error=\"{why}\"");
        meters.figure(DISCONNECTIONS, &[&why])
    };
    call(&channel, "calm").await.expect("an answer");
    let told = || ended("GOAWAY ENHANCE_YOUR_CALM") == Some(1.0);
    until("the GOAWAY is counted", told).await;
    let left = client(&channel).say_hello(patient("leave")).await;
    left.expect_err("it has left");
    until("the end is counted", || ended("socket error") == Some(1.0)).await;
    client(&channel)
        .say_hello(patient("hello"))
        .await
        .expect("an answer");
    assert_eq!(meters.figure(SUCCEEDED, &[]), Some(3.0));
    assert_eq!(meters.figure(FAILED, &[]), None);
    let plain = ["grpc_security_level=\"none\""];
    let open = "grpc_subchannel_open_connections";
    assert_eq!(meters.figure(open, &plain), Some(1.0));
    channel.close().await;
    let shut = || ended("subchannel shutdown") == Some(1.0);
    until("the channel's own end is counted", shut).await;
    assert_eq!(meters.figure(DISCONNECTIONS, &[]), Some(3.0));
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_connected_is_counted_as_often_as_it_is_tried() {
    let meters = Meters::new();
    let channel = meters.channel("static:///127.0.0.1:1");
    let channel = channel.build().expect("a channel");
    call(&channel, "hello").await.expect_err("nobody listens");
    assert_eq!(meters.figure(FAILED, &[]), Some(1.0));
    assert_eq!(meters.figure(SUCCEEDED, &[]), None);
    assert_eq!(meters.figure(DISCONNECTIONS, &[]), None);
}

#[tokio::test]
async fn attempts_and_connections_say_in_which_zone_they_are_when_they_are_asked_to() {
    let (server, registry) = (Server::start().await, registry());
    let zone = Zone::new("eu-1").expect("a zone");
    let instance = Instance::new(greeter(), server.address.clone()).with_zone(zone);
    let _registration = register_as(&registry, instance).await;
    let meters = Meters::new();
    let channel = meters.channel("greeter").registry(&registry);
    let channel = channel.optional_labels([OptionalLabel::Locality]);
    let channel = channel.build().expect("a channel");
    call(&channel, "a").await.expect("an answer");
    let here = r#"grpc_lb_locality="{region=\"\", zone=\"eu-1\", sub_zone=\"\"}""#;
    for (name, figure) in [
        ("grpc_client_attempt_duration_seconds_count", 1.0),
        (
            "grpc_client_attempt_sent_total_compressed_message_size_bytes_count",
            1.0,
        ),
        (
            "grpc_client_attempt_rcvd_total_compressed_message_size_bytes_count",
            1.0,
        ),
        (SUCCEEDED, 1.0),
        ("grpc_subchannel_open_connections", 1.0),
    ] {
        assert_eq!(meters.figure(name, &[here]), Some(figure), "{name}");
    }
    let call = "rpc_client_call_duration_seconds_count";
    assert_eq!(meters.figure(call, &[]), Some(1.0));
    assert_eq!(
        meters.figure(call, &[here]),
        None,
        "gRFC A78 has it of attempts"
    );
}

#[tokio::test]
async fn no_optional_label_is_told_unless_it_is_asked_for() {
    let peer = leaving().await;
    let meters = Meters::new();
    let channel = meters.channel(&format!("static:///{}", peer.address));
    let channel = channel.build().expect("a channel");
    call(&channel, "calm").await.expect("an answer");
    let told = || meters.figure(DISCONNECTIONS, &[]) == Some(1.0);
    until("the GOAWAY is counted", told).await;
    let text = meters.text();
    for label in [
        "grpc_lb_locality",
        "grpc_disconnect_error",
        "grpc_security_level",
    ] {
        assert!(!text.contains(label), "{text}");
    }
}

#[tokio::test]
async fn weights_are_told_each_time_that_they_are_looked_at() {
    let (strong, weak) = (reporting(300.0, false).await, reporting(100.0, false).await);
    let meters = Meters::new();
    let target = format!("static:///{},{}", strong.address, weak.address);
    let settings = r#"{"blackoutPeriod": "0s", "weightUpdatePeriod": "0.1s",
        "weightExpirationPeriod": "0.3s"}"#;
    let channel = meters.channel(&target).service_config(calling(settings));
    let channel = channel.build().expect("a channel");
    let figure = |name: &str| meters.figure(&format!("grpc_lb_wrr_{name}"), &[]);
    call(&channel, "hello").await.expect("an answer");
    assert!(
        figure("rr_fallback_total") >= Some(1.0),
        "nobody has reported"
    );
    assert!(figure("endpoint_weight_not_yet_usable_total") >= Some(1.0));
    assert_eq!(figure("endpoint_weight_stale_total"), None);
    let mut caller = client(&channel);
    let calls = async {
        loop {
            caller.say_hello(hello("hello")).await.expect("an answer");
        }
    };
    // 300 calls a second at half of the utilization weigh 600, and 100 weigh 200.
    let sum = || figure("endpoint_weights_sum").expect("it was looked at");
    let weighed = until("both have reported", || sum() >= 800.0);
    tokio::select! {
        () = weighed => {}
        () = calls => {}
    }
    let stale = || figure("endpoint_weight_stale_total") >= Some(2.0);
    until("both reports have expired", stale).await;
}
