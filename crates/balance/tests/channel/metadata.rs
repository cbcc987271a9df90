//! How much metadata either side may send.

use balance::Channel;
use proto::helloworld::HelloRequest;
use tonic::{Code, Request, Status, metadata::MetadataValue};

use crate::{
    call, client,
    frames::{Asked, END_STREAM, HEAD, SETTINGS, Script, Wire, frame, greeting},
    hello,
    peer::Peer,
};

/// A server that takes so many bytes of metadata, and says of each greeting what `trailers` has for its name.
async fn server(takes: Option<u32>, trailers: fn(&str) -> String) -> Peer {
    Peer::start(move |_, socket, address| async move {
        let wire = Wire::without_settings(socket).await;
        let mut wire = wire.expect("an HTTP/2 client");
        // SETTINGS_MAX_HEADER_LIST_SIZE, beside another setting.
        let limit = takes.map(|bytes| [&[0, 6][..], &bytes.to_be_bytes()].concat());
        let settings = [vec![0, 3, 0, 0, 0, 100], limit.unwrap_or_default()].concat();
        let settings = frame(SETTINGS, 0, 0, &settings);
        wire.raw(&settings).await.expect("the client is there");
        while let Ok(Asked { stream, names }) = wire.asked().await {
            let script = Script::on(stream).headers(0, &HEAD);
            let script = script.data(0, &greeting(&names[0], &address));
            let more = trailers(&names[0]);
            let fields = [("grpc-status", "0"), ("x-more", more.as_str())];
            let script = script.long_headers(END_STREAM, &fields);
            wire.write(script).await.expect("the client is there");
        }
    })
    .await
}

fn none(_name: &str) -> String {
    String::new()
}

fn as_many_as_it_says(name: &str) -> String {
    "x".repeat(name.parse().expect("a number"))
}

fn channel(peer: &Peer) -> balance::Builder {
    Channel::builder(format!("static:///{}", peer.address))
}

/// A request with so many bytes of metadata beside what every request has.
fn with_metadata(bytes: usize) -> Request<HelloRequest> {
    const FIELD: usize = "x-large".len() + 32;
    let mut request = Request::new(HelloRequest { name: "a".into() });
    let value = MetadataValue::try_from("x".repeat(bytes - FIELD)).expect("ASCII");
    request.metadata_mut().insert("x-large", value);
    request
}

/// The size that a refusal names.
fn size(refused: &Status) -> usize {
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let said = refused.message().split(" has ").nth(1).expect("a size");
    let size = said.split(' ').next().expect("a size");
    size.parse().expect("a number")
}

#[tokio::test]
async fn a_channel_takes_as_much_metadata_as_its_builder_says() {
    const FIELDS: usize = ("grpc-status".len() + 1 + 32) + ("x-more".len() + 32);
    for limit in [4_000, 1 << 20] {
        let peer = server(None, as_many_as_it_says).await;
        let channel =
            channel(&peer).max_inbound_metadata_size(u32::try_from(limit).expect("small"));
        let channel = channel.build().expect("a channel");
        let most = limit - FIELDS;
        call(&channel, &most.to_string())
            .await
            .expect("just as much as may be");
        let above = call(&channel, &(most + 1).to_string()).await;
        let above = above.expect_err("a byte too much");
        assert_eq!(above.code(), Code::ResourceExhausted, "{above}");
        let says = format!("{} bytes, more than the {limit}", limit + 1);
        assert!(above.message().contains(&says), "{above}");
    }
}

#[tokio::test]
async fn a_request_with_more_metadata_than_its_server_takes_fails_alone_before_it_is_sent() {
    const TAKES: u32 = 16 << 10;
    let peer = server(Some(TAKES), none).await;
    let channel = channel(&peer).build().expect("a channel");
    let refused = client(&channel).say_hello(with_metadata(20_000)).await;
    let refused = refused.expect_err("too much");
    let rest = size(&refused) - 20_000;
    assert!(
        (150..400).contains(&rest),
        "{rest} bytes are every request's"
    );
    let says = format!("more than the {TAKES} that the server takes");
    assert!(refused.message().contains(&says), "{refused}");
    assert!(
        refused.message().contains(peer.address.as_str()),
        "{refused}"
    );
    let rest_of_limit = TAKES as usize - rest;
    let most = client(&channel)
        .say_hello(with_metadata(rest_of_limit))
        .await;
    most.expect("just as much as may be");
    let above = client(&channel)
        .say_hello(with_metadata(rest_of_limit + 1))
        .await;
    assert_eq!(
        size(&above.expect_err("a byte too much")),
        TAKES as usize + 1
    );
    call(&channel, "next")
        .await
        .expect("the connection is as it was");
}

#[tokio::test]
async fn a_server_that_names_no_limit_is_sent_any_metadata() {
    let peer = server(None, none).await;
    let channel = channel(&peer).build().expect("a channel");
    let answer = client(&channel).say_hello(with_metadata(100_000)).await;
    answer.expect("an answer");
    let answer = client(&channel).say_hello(hello("next")).await;
    answer.expect("an answer");
}
