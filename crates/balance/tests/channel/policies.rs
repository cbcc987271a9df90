//! Each policy by its name, through a channel to real servers: who answers, and in roughly which shares. The exact bounds
//! are for the policies' own tests.

use std::{collections::BTreeMap, time::Duration};

use balance::{
    BuildError, Channel, HashKey, ServedBy, TellServedBy,
    policy::{Endpoints, Plan, Policy},
};
use proto::helloworld::HelloRequest;
use registry::{Instance, Registration, Registry, Weight};
use tonic::{Code, Request};

use crate::{
    BOUND, call, client, greeter, hello, patient,
    peer::{Peer, greet, handshake},
    register_as, registry,
    server::Server,
    until, until_ready,
};

/// Three greeters of these weights.
struct Three {
    registry: Registry,
    servers: Vec<Server>,
    registrations: Vec<Registration>,
}

impl Three {
    async fn start(weights: [u32; 3]) -> Self {
        let registry = registry();
        let (mut servers, mut registrations) = (Vec::new(), Vec::new());
        for weight in weights {
            let server = Server::start().await;
            let instance = Instance::new(greeter(), server.address.clone())
                .with_weight(Weight::new(weight).expect("a weight"));
            registrations.push(register_as(&registry, instance).await);
            servers.push(server);
        }
        Self {
            registry,
            servers,
            registrations,
        }
    }

    /// A channel to them by a policy as a service config has it.
    fn by(&self, policy: &str) -> Channel {
        Channel::builder("greeter")
            .registry(&self.registry)
            .service_config(format!(r#"{{"loadBalancingConfig":[{policy}]}}"#))
            .build()
            .expect("a channel")
    }

    /// How many of some calls each of them answered, in the order in which they were started.
    async fn shares(&self, channel: &Channel, calls: usize) -> Vec<usize> {
        let mut shares: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..calls {
            *shares
                .entry(call(channel, "x").await.expect("an answer"))
                .or_default() += 1;
        }
        let share = |server: &Server| shares.get(server.address.as_str());
        self.servers
            .iter()
            .map(|server| share(server).copied().unwrap_or_default())
            .collect()
    }
}

#[tokio::test]
async fn every_policy_answers_calls_by_its_name() {
    let three = Three::start([1, 2, 3]).await;
    for name in [
        "pick_first",
        "round_robin",
        "weighted_round_robin",
        "random",
        "weighted_random",
        "least_request",
        "least_request_experimental",
        "peak_ewma",
        "ring_hash",
        "ring_hash_experimental",
        "maglev",
    ] {
        let channel = three.by(&format!(r#"{{"{name}":{{}}}}"#));
        let shares = three.shares(&channel, 30).await;
        assert_eq!(shares.iter().sum::<usize>(), 30, "{name}");
    }
}

#[tokio::test]
async fn policies_without_weights_give_equal_shares_whatever_the_weights() {
    let three = Three::start([1, 2, 3]).await;
    let channel = three.by(r#"{"round_robin":{}}"#);
    until_ready(&channel, 3).await;
    assert_eq!(three.shares(&channel, 600).await, [200; 3]);
    let channel = three.by(r#"{"random":{}}"#);
    until_ready(&channel, 3).await;
    for share in three.shares(&channel, 600).await {
        // Six standard deviations.
        assert!((130..=270).contains(&share), "{share}");
    }
}

#[tokio::test]
async fn policies_with_weights_give_shares_in_proportion_to_them() {
    let three = Three::start([1, 2, 3]).await;
    for (policy, slack) in [
        ("weighted_round_robin", 5),
        // Six standard deviations.
        ("weighted_random", 75),
        ("least_request", 75),
    ] {
        let channel = three.by(&format!(r#"{{"{policy}":{{}}}}"#));
        until_ready(&channel, 3).await;
        let shares = three.shares(&channel, 600).await;
        for (share, expected) in shares.iter().zip([100_usize, 200, 300]) {
            assert!(share.abs_diff(expected) <= slack, "{policy}: {shares:?}");
        }
    }
}

#[tokio::test]
async fn peak_ewma_keeps_calls_from_an_instance_that_is_slow() {
    let slow = Peer::start(|_, socket, address| async move {
        let mut connection = handshake(socket).await;
        let mut answers = tokio::task::JoinSet::new();
        while let Some(Ok((_, respond))) = connection.accept().await {
            let address = address.clone();
            answers.spawn(async move {
                // Far longer than an answer takes on a machine that is busy.
                tokio::time::sleep(Duration::from_millis(500)).await;
                greet(respond, "x", &address);
            });
        }
    })
    .await;
    let quick = Server::start().await;
    let channel = Channel::builder(format!("static:///{},{}", slow.address, quick.address))
        .policy("peak_ewma")
        .build()
        .expect("a channel");
    until_ready(&channel, 2).await;
    let mut slowly = 0;
    for _ in 0..200 {
        let by = call(&channel, "x").await.expect("an answer");
        slowly += usize::from(by == slow.address.as_str());
    }
    assert!(slowly <= 20, "{slowly} of 200 went to the slow one");
}

/// Which server answers the call with that key, and with the value of a header that no other has.
async fn by_key(channel: &Channel, name: &str, key: HashKey) -> String {
    let mut request = hello(name);
    request.extensions_mut().insert(key);
    served_by(channel, request).await
}

async fn served_by(channel: &Channel, mut request: Request<HelloRequest>) -> String {
    request.extensions_mut().insert(TellServedBy);
    let response = client(channel).say_hello(request).await.expect("an answer");
    let by = response.extensions().get::<ServedBy>();
    by.expect("an instance answered").id().to_string()
}

#[tokio::test]
async fn calls_with_equal_keys_go_to_one_instance_and_few_others_move_when_another_goes() {
    const KEYS: u64 = 300;
    for policy in ["ring_hash", "maglev"] {
        let mut three = Three::start([1, 1, 1]).await;
        let channel = three.by(&format!(r#"{{"{policy}":{{}}}}"#));
        let mut places = Vec::new();
        for key in 0..KEYS {
            let key = HashKey::of(key.to_string());
            places.push(by_key(&channel, "x", key).await);
            assert_eq!(by_key(&channel, "y", key).await, places[places.len() - 1]);
        }
        for server in &three.servers {
            let own = places
                .iter()
                .filter(|place| **place == server.address.as_str());
            assert!((50..=150).contains(&own.count()), "{policy}: {places:?}");
        }
        let gone = three.registrations.remove(0);
        gone.deregister().await.expect("deregistered");
        let id = three.servers[0].address.to_string();
        until("it is gone", || channel.explain().endpoints.len() == 2).await;
        let mut moved = 0;
        for (key, before) in (0..KEYS).zip(&places) {
            let now = by_key(&channel, "x", HashKey::of(key.to_string())).await;
            if *before == id {
                assert_ne!(now, id);
            } else {
                moved += usize::from(now != *before);
            }
        }
        // A few others move: Maglev's table is kept even, and A42's ring has more places for each of fewer endpoints.
        assert!(moved <= 60, "{policy}: {moved} others have moved");
    }
}

#[tokio::test]
async fn a_header_is_hashed_as_the_service_config_asks() {
    let three = Three::start([1, 1, 1]).await;
    for policy in ["ring_hash", "maglev"] {
        let channel = three.by(&format!(
            r#"{{"{policy}":{{"requestHashHeader":"x-user"}}}}"#
        ));
        let mut seen = BTreeMap::new();
        for user in 0..40 {
            let user = format!("user-{user}");
            let request = || {
                let mut request = hello("x");
                let value = user.parse().expect("a value");
                request.metadata_mut().insert("x-user", value);
                request
            };
            let by = served_by(&channel, request()).await;
            assert_eq!(served_by(&channel, request()).await, by);
            assert_eq!(by_key(&channel, "x", HashKey::of(&user)).await, by);
            *seen.entry(by).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 3, "{policy}: {seen:?}");
    }
}

/// Chooses nobody.
struct Nobody;

impl Policy for Nobody {
    fn plan(&mut self, _: &Endpoints<'_>) -> Plan {
        Plan::connecting()
    }
}

#[tokio::test]
async fn a_policy_of_ones_own_cannot_take_a_name_that_means_something_already() {
    for name in [
        "round_robin",
        "ring_hash_experimental",
        "zone_preference",
        "random_subsetting_experimental",
        "outlier_detection",
    ] {
        let builder = Channel::builder("static:///127.0.0.1:1");
        let builder = builder.register_policy(name, |_| Ok(Box::new(Nobody)));
        let error = builder.build().expect_err("the name is taken");
        assert!(
            matches!(&error, BuildError::PolicyNameTaken { name: taken } if taken == name),
            "{error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// Makes no plan at all.
struct Panics;

impl Policy for Panics {
    fn plan(&mut self, _: &Endpoints<'_>) -> Plan {
        panic!("as it is meant to");
    }
}

#[tokio::test]
async fn a_policy_of_ones_own_that_panics_fails_calls_and_lets_the_channel_close() {
    let builder = Channel::builder("static:///127.0.0.1:1").policy("panics");
    let builder = builder.register_policy("panics", |_| Ok(Box::new(Panics)));
    let channel = builder.build().expect("a channel");
    let status = client(&channel).say_hello(patient("x")).await;
    let status = status.expect_err("nobody chooses");
    assert_eq!(status.code(), Code::Internal, "{status}");
    assert!(status.message().contains("panicked"), "{status}");
    let closed = tokio::time::timeout(BOUND, channel.close()).await;
    closed.expect("there is nothing to wait for");
}

#[tokio::test]
async fn two_policies_of_ones_own_need_two_names() {
    let with_one = || {
        let builder = Channel::builder("static:///127.0.0.1:1");
        builder.register_policy("nobody", |_| Ok(Box::new(Nobody)))
    };
    with_one().policy("nobody").build().expect("a channel");
    let twice = with_one().register_policy("nobody", |_| Ok(Box::new(Nobody)));
    let error = twice.build().expect_err("the name is taken");
    assert!(error.to_string().contains("\"nobody\""), "{error}");
}
