//! Instances that have several addresses.

use registry::{Address, Instance};

use crate::{
    client, greeter, hello,
    peer::{Peer, hang},
    register_as, registry,
    server::Server,
    to_greeter,
};

#[tokio::test]
async fn an_instance_is_called_at_the_first_of_its_addresses_that_answers() {
    let silent = Peer::start(|_, socket, _| hang(socket)).await;
    let dead = Address::new("127.0.0.1:1").expect("an address");
    let server = Server::start().await;
    for preferred in [&dead, &silent.address] {
        let registry = registry();
        let instance = Instance::new(greeter(), preferred.clone())
            .with_more_addresses([server.address.clone()]);
        let _registration = register_as(&registry, instance).await;
        let channel = to_greeter(&registry);
        let answer = client(&channel).say_hello(hello("world")).await;
        let message = answer.expect("an answer").into_inner().message;
        assert_eq!(message, format!("Hello world from {}", server.address));
        let endpoints = channel.explain().endpoints;
        let ids: Vec<_> = endpoints.iter().map(|e| e.id.as_str()).collect();
        assert_eq!(ids, [preferred.as_str()], "it is one endpoint");
    }
}
