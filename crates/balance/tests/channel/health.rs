//! Health as servers tell it, over the connections that calls take (gRFC A17).

use std::collections::BTreeSet;

use balance::Channel;
use registry::{Address, Document};
use tokio::sync::mpsc;
use tonic_health::ServingStatus::{NotServing, Serving};

use crate::{
    BOUND, call, greeter,
    peer::{Peer, framed, greet, handshake, open},
    register, registry,
    server::Server,
    to_greeter, until, until_ready,
};

const NAME: &str = "helloworld.Greeter";
const ASKING: &str = r#"{"healthCheckConfig": {"serviceName": "helloworld.Greeter"}}"#;

/// A channel to these addresses and no others.
fn to(servers: &[&Address], config: &str) -> Channel {
    let list: Vec<_> = servers.iter().map(|address| address.as_str()).collect();
    Channel::builder(format!("static:///{}", list.join(",")))
        .service_config(config)
        .build()
        .expect("a channel")
}

/// Two servers, of which the first says that it is not serving.
async fn one_of_two() -> [Server; 2] {
    let servers = [Server::start().await, Server::start().await];
    servers[0].health.set_service_status(NAME, NotServing).await;
    servers[1].health.set_service_status(NAME, Serving).await;
    servers
}

/// Who answers some calls.
async fn answering(channel: &Channel) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for _ in 0..20 {
        all.insert(call(channel, "hello").await.expect("an answer"));
    }
    all
}

fn names(servers: &[&Server]) -> BTreeSet<String> {
    let names = servers.iter().map(|server| server.address.to_string());
    names.collect()
}

/// Waits until somebody's remark says that.
async fn until_remarked(channel: &Channel, says: &str) {
    let remarked = || {
        let endpoints = channel.explain().endpoints;
        let mut remarks = endpoints.iter().filter_map(|e| e.remark.as_deref());
        remarks.any(|remark| remark.contains(says))
    };
    until(says, remarked).await;
}

#[tokio::test]
async fn a_server_that_says_it_is_not_serving_gets_calls_only_when_it_says_otherwise() {
    let [ill, well] = one_of_two().await;
    let channel = to(&[&ill.address, &well.address], ASKING);
    until_remarked(&channel, "NOT_SERVING").await;
    until_ready(&channel, 1).await;
    assert_eq!(answering(&channel).await, names(&[&well]));
    ill.health.set_service_status(NAME, Serving).await;
    until_ready(&channel, 2).await;
    assert_eq!(answering(&channel).await, names(&[&ill, &well]));
    well.health.set_service_status(NAME, NotServing).await;
    until_remarked(&channel, "NOT_SERVING").await;
    assert_eq!(answering(&channel).await, names(&[&ill]));
}

#[tokio::test]
async fn calls_fail_with_the_servers_word_when_nobody_is_serving_and_panic_uses_all() {
    let [server, _other] = one_of_two().await;
    let channel = to(&[&server.address], ASKING);
    until_remarked(&channel, "NOT_SERVING").await;
    let status = call(&channel, "hello").await.expect_err("nobody serves");
    assert!(
        status
            .message()
            .contains("the server says NOT_SERVING of \"helloworld.Greeter\""),
        "{status}"
    );
    let panicking = to(
        &[&server.address],
        r#"{
            "healthCheckConfig": {"serviceName": "helloworld.Greeter"},
            "loadBalancingConfig": [{"panic_threshold": {"childPolicy": [{"round_robin": {}}]}}]
        }"#,
    );
    assert_eq!(answering(&panicking).await, names(&[&server]));
}

#[tokio::test]
async fn an_endpoint_is_not_ready_before_its_health_is_known() {
    let (tell, mut asked) = mpsc::unbounded_channel();
    let silent = Peer::start(move |_, socket, address| {
        let tell = tell.clone();
        async move {
            let mut connection = handshake(socket).await;
            while let Some(Ok((request, respond))) = connection.accept().await {
                if request.uri().path() == "/grpc.health.v1.Health/Watch" {
                    tell.send(respond).expect("the test waits");
                } else {
                    greet(respond, "hello", &address);
                }
            }
        }
    })
    .await;
    let channel = to(&[&silent.address], ASKING);
    let watch = tokio::time::timeout(BOUND, asked.recv()).await;
    let watch = watch.expect("it asks").expect("the peer runs");
    let early = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "hello").await }
    });
    until("it waits", || channel.explain().calls_in_flight == 1).await;
    assert_eq!(channel.explain().endpoints[0].state, "CONNECTING");
    let mut answer = open(watch);
    // Field 1 is SERVING.
    answer.send_data(framed(&[0x08, 1]), false).expect("open");
    early.await.expect("runs").expect("an answer");
    until_ready(&channel, 1).await;
}

#[tokio::test]
async fn another_service_config_begins_renames_and_ends_the_watch() {
    let registry = registry();
    let [ill, well] = one_of_two().await;
    let _registrations = [
        register(&registry, &ill.address).await,
        register(&registry, &well.address).await,
    ];
    let channel = to_greeter(&registry);
    until_ready(&channel, 2).await;
    let config = |text: &str| Document::new(text).expect("a document");
    registry
        .set_document(&greeter(), config(ASKING))
        .await
        .expect("kept");
    until_remarked(&channel, "NOT_SERVING of \"helloworld.Greeter\"").await;
    assert_eq!(answering(&channel).await, names(&[&well]));
    // The server as a whole is well.
    let whole = config(r#"{"healthCheckConfig": {"serviceName": ""}}"#);
    registry
        .set_document(&greeter(), whole)
        .await
        .expect("kept");
    until_ready(&channel, 2).await;
    registry
        .set_document(&greeter(), config(ASKING))
        .await
        .expect("kept");
    until_remarked(&channel, "NOT_SERVING").await;
    registry.delete_document(&greeter()).await.expect("gone");
    until_ready(&channel, 2).await;
    assert_eq!(answering(&channel).await, names(&[&ill, &well]));
}

#[tokio::test]
async fn pick_first_asks_nobody_for_their_health() {
    let [ill, _well] = one_of_two().await;
    let channel = to(
        &[&ill.address],
        r#"{
            "healthCheckConfig": {"serviceName": "helloworld.Greeter"},
            "loadBalancingConfig": [{"pick_first": {}}]
        }"#,
    );
    assert_eq!(answering(&channel).await, names(&[&ill]));
}

#[tokio::test]
async fn a_health_watch_that_answers_with_rubbish_keeps_calls_from_its_server_alone_and_says_so() {
    const WATCH: &str = "/grpc.health.v1.Health/Watch";
    // A state that there is none of, what is no message, and what is no frame of one.
    for (rubbish, says) in [
        (framed(&[1 << 3, 99]), "the server says UNKNOWN"),
        (framed(&[255, 255]), "INTERNAL"),
        (vec![7; 16].into(), "compressed flag 7"),
        (vec![0, 255, 255, 255, 255].into(), "4294967295 bytes"),
    ] {
        let rude = Peer::start(move |_, socket, address| {
            let rubbish = rubbish.clone();
            async move {
                let (mut connection, mut watches) = (handshake(socket).await, Vec::new());
                while let Some(Ok((request, respond))) = connection.accept().await {
                    if request.uri().path() == WATCH {
                        let mut watch = open(respond);
                        watch.send_data(rubbish.clone(), false).expect("open");
                        watches.push(watch);
                    } else {
                        greet(respond, "hello", &address);
                    }
                }
            }
        })
        .await;
        let well = Server::start().await;
        well.health.set_service_status(NAME, Serving).await;
        let channel = to(&[&rude.address, &well.address], ASKING);
        until_remarked(&channel, says).await;
        until_ready(&channel, 1).await;
        assert_eq!(answering(&channel).await, names(&[&well]));
    }
}
