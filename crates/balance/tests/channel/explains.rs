//! What a channel says of its endpoints: where each comes from, how it stands, and why it is not being picked.

use std::sync::atomic::Ordering;

use balance::{Channel, EndpointExplanation, Explanation};
use registry::{Address, Instance, Registration, Registry, Status, Weight, Zone};
use tonic::Code;

use crate::{
    call, client, greeter, hello,
    peer::{Peer, hang},
    register, registry,
    server::Server,
    to_greeter, until, until_ready,
};

/// Registers an instance and waits until the registry has it.
async fn put(registry: &Registry, instance: Instance) -> Registration {
    let registration = registry.register(instance, crate::TTL);
    let mut states = registration.states();
    let there = states.wait_for(registry::RegistrationState::is_held);
    there.await.expect("the registration lives");
    registration
}

fn at(address: &Address) -> Instance {
    Instance::new(greeter(), address.clone())
}

fn of<'a>(explanation: &'a Explanation, address: &Address) -> &'a EndpointExplanation {
    let mut endpoints = explanation.endpoints.iter();
    let endpoint = endpoints.find(|endpoint| endpoint.id == address.as_str());
    endpoint.unwrap_or_else(|| panic!("{address} is not in {explanation:?}"))
}

#[tokio::test]
async fn an_endpoint_says_where_it_comes_from_and_how_it_stands() {
    let (server, registry) = (Server::start().await, registry());
    let instance = at(&server.address)
        .with_zone(Zone::new("eu-1").expect("a zone"))
        .with_version("v2")
        .with_weight(Weight::new(3).expect("a weight"));
    let registration = put(&registry, instance).await;
    let channel = to_greeter(&registry);
    until_ready(&channel, 1).await;
    call(&channel, "a").await.expect("an answer");
    let explained = channel.explain();
    let endpoint = of(&explained, &server.address);
    let key = format!("greeter/{}", server.address);
    assert_eq!(endpoint.key.as_deref(), Some(key.as_str()));
    assert_eq!(endpoint.revision, explained.revision);
    assert_eq!(endpoint.zone.as_deref(), Some("eu-1"));
    assert_eq!(endpoint.version.as_deref(), Some("v2"));
    assert_eq!((endpoint.weight, endpoint.status.as_str()), (3, "serving"));
    assert_eq!((endpoint.state.as_str(), endpoint.picks), ("READY", 1));
    assert!((endpoint.share - 1.0).abs() < f64::EPSILON);
    assert!(endpoint.latency_ms.is_some_and(|ms| ms > 0.0));
    assert_eq!(endpoint.remark, None);
    let [connection] = &endpoint.connections[..] else {
        panic!("{endpoint:?}");
    };
    assert_eq!(connection.peer, server.address.as_str());
    assert_eq!((connection.state.as_str(), connection.streams), ("open", 0));

    let before = endpoint.revision;
    let heavier = Weight::new(4).expect("a weight");
    registration.update(|i| i.with_weight(heavier)).await;
    until("the change is seen", || {
        of(&channel.explain(), &server.address).weight == 4
    })
    .await;
    assert!(of(&channel.explain(), &server.address).revision > before);
}

#[tokio::test]
async fn what_is_written_anew_word_for_word_is_shown_at_its_new_revision() {
    let (server, registry) = (Server::start().await, registry());
    let registration = register(&registry, &server.address).await;
    let channel = to_greeter(&registry);
    until_ready(&channel, 1).await;
    let before = of(&channel.explain(), &server.address).revision;
    // There and back again, so that the last word is the first.
    for weight in [Weight::new(2).expect("a weight"), Weight::default()] {
        registration.update(|i| i.with_weight(weight)).await;
    }
    until("the revision is that of the list", || {
        let explained = channel.explain();
        let revision = of(&explained, &server.address).revision;
        revision > before && revision == explained.revision
    })
    .await;
}

#[tokio::test]
async fn an_explanation_takes_nobodys_turn() {
    let (one, other) = (Server::start().await, Server::start().await);
    let channel = crate::to(&[&one.address, &other.address]);
    until_ready(&channel, 2).await;
    for _ in 0..10 {
        call(&channel, "a").await.expect("an answer");
        assert_eq!(channel.explain().failing, None);
    }
    let explained = channel.explain();
    let picks: Vec<_> = explained.endpoints.iter().map(|e| e.picks).collect();
    assert_eq!(picks, [5, 5]);
}

#[tokio::test]
async fn an_endpoint_that_is_ejected_says_why_and_for_how_much_longer() {
    let server = Server::start().await;
    let broken =
        Peer::answering(|mut respond| respond.send_reset(h2::Reason::INTERNAL_ERROR)).await;
    let target = format!("static:///{},{}", server.address, broken.address);
    let channel = Channel::builder(target)
        .service_config(
            r#"{"loadBalancingConfig": [{"outlier_detection": {"maxEjectionPercent": 50,
                "consecutiveFailures": {"threshold": 2}, "childPolicy": [{"round_robin": {}}]}}]}"#,
        )
        .build()
        .expect("a channel");
    until_ready(&channel, 2).await;
    let ejected = async {
        while channel.explain().ejections == 0 {
            // Half of them fail until it is ejected.
            let _ = call(&channel, "a").await;
        }
    };
    let ejected = tokio::time::timeout(crate::BOUND, ejected).await;
    ejected.expect("it is ejected");
    until("it is shown", || {
        of(&channel.explain(), &broken.address).ejection.is_some()
    })
    .await;
    let explained = channel.explain();
    let endpoint = of(&explained, &broken.address);
    let ejection = endpoint.ejection.as_ref().expect("it is ejected");
    assert_eq!(ejection.why, "ejected: 2 calls failed in a row");
    assert!((1..=30_000).contains(&ejection.left_ms), "{ejection:?}");
    assert_eq!(endpoint.remark.as_ref(), Some(&ejection.why));
    assert_eq!(endpoint.state, "READY", "its connection is well");
    assert_eq!(of(&explained, &server.address).ejection, None);
    let now = || of(&channel.explain(), &broken.address).ejection.clone();
    let goes_on =
        || now().is_some_and(|now| now.for_ms > ejection.for_ms && now.left_ms < ejection.left_ms);
    until("it goes on to be ejected", goes_on).await;
}

#[tokio::test]
async fn each_state_has_its_reason() {
    let (server, registry) = (Server::start().await, registry());
    let hanging = Peer::start(|_, socket, _| hang(socket)).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let refused = Address::from(listener.expect("a port").local_addr().expect("bound"));
    let mut registrations = Vec::new();
    for address in [&server.address, &hanging.address, &refused] {
        registrations.push(register(&registry, address).await);
    }
    let channel = to_greeter(&registry);
    until("it knows them", || channel.explain().endpoints.len() == 3).await;
    let state = |address| of(&channel.explain(), address).state.clone();
    until("each has come to its state", || {
        state(&server.address) == "READY" && state(&refused) == "TRANSIENT_FAILURE"
    })
    .await;
    let explained = channel.explain();
    let remark = |address| of(&explained, address).remark.as_deref();
    assert_eq!(remark(&server.address), None);
    assert_eq!(remark(&hanging.address), Some("connecting"));
    assert!(remark(&refused).is_some_and(|why| why.contains("refused")));
    assert!(of(&explained, &refused).failure.is_some());

    let idle = Channel::builder("greeter").registry(&registry);
    let idle = idle.policy("ring_hash").build();
    let idle = idle.expect("a channel");
    until("it knows them", || idle.explain().endpoints.len() == 3).await;
    for endpoint in idle.explain().endpoints {
        assert_eq!(endpoint.state, "IDLE");
        let why = "not connected: the policy has not asked for it";
        assert_eq!(endpoint.remark.as_deref(), Some(why));
    }
}

#[tokio::test]
async fn an_endpoint_that_the_registry_has_dropped_and_that_serves_on_says_so() {
    let (server, registry) = (Server::start().await, registry());
    let registration = register(&registry, &server.address).await;
    let channel = to_greeter(&registry);
    until_ready(&channel, 1).await;
    registration.deregister().await.expect("it is gone");
    until("it is held", || {
        of(&channel.explain(), &server.address).held
    })
    .await;
    call(&channel, "a").await.expect("it serves on");
    let explained = channel.explain();
    let remark = of(&explained, &server.address).remark.as_deref();
    assert!(remark.is_some_and(|why| why.contains("gone from the registry")));
    assert_eq!(explained.mass_losses, 1);
}

#[tokio::test]
async fn an_instance_that_says_that_it_is_not_serving_says_so_and_all_are_used_in_panic() {
    let (server, registry) = (Server::start().await, registry());
    let instance = at(&server.address).with_status(Status::NotServing);
    let _registration = put(&registry, instance).await;
    let channel = Channel::builder("greeter").registry(&registry);
    let channel = channel.service_config(
        r#"{"loadBalancingConfig": [{"panic_threshold": {"childPolicy": [{"round_robin": {}}]}}]}"#,
    );
    let channel = channel.build().expect("a channel");
    call(&channel, "a").await.expect("an answer");
    let explained = channel.explain();
    assert!(explained.panicking && explained.panics == 1);
    let remark = of(&explained, &server.address).remark.clone();
    let remark = remark.expect("it is not to be expected");
    assert!(
        remark.contains("not serving") && remark.contains("too few others"),
        "{remark}"
    );
}

#[tokio::test]
async fn instances_that_are_no_endpoints_are_listed_with_the_reason() {
    let (server, registry) = (Server::start().await, registry());
    let other = |port| Address::new(&format!("127.0.0.1:{port}")).expect("an address");
    let _held = [
        put(&registry, at(&server.address).with_version("v2")).await,
        put(&registry, at(&other(1)).with_version("v1")).await,
        put(
            &registry,
            at(&other(2))
                .with_version("v2")
                .with_status(Status::Draining),
        )
        .await,
        put(
            &registry,
            at(&other(3))
                .with_version("v2")
                .with_status(Status::NotServing),
        )
        .await,
    ];
    let channel = Channel::builder("greeter?version=v2").registry(&registry);
    let channel = channel.build().expect("a channel");
    until_ready(&channel, 1).await;
    let left_out = channel.explain().left_out;
    let said: Vec<_> = left_out
        .iter()
        .map(|l| (l.key.as_deref(), l.remark.as_str()))
        .collect();
    let expected = [
        (Some("greeter/127.0.0.1:1"), "another version"),
        (Some("greeter/127.0.0.1:2"), "draining"),
        (Some("greeter/127.0.0.1:3"), "not serving"),
    ];
    assert_eq!(said.len(), expected.len(), "{said:?}");
    for ((key, remark), (expected, part)) in said.into_iter().zip(expected) {
        assert_eq!(key, expected);
        assert!(remark.contains(part), "{remark}");
    }
}

#[tokio::test]
async fn what_an_operator_wants_is_done_live_and_explained_until_it_is_taken_back() {
    let (one, other) = (Server::start().await, Server::start().await);
    let registry = registry();
    let _held = [
        put(&registry, at(&one.address)).await,
        put(&registry, at(&other.address)).await,
    ];
    let channel = Channel::builder("greeter").registry(&registry);
    let channel = channel
        .policy("weighted_random")
        .build()
        .expect("a channel");
    until_ready(&channel, 2).await;
    let id = at(&one.address).id;
    let want = async |intent| {
        let set = registry.set_intent(&greeter(), &id, intent).await;
        set.expect("it is kept");
    };
    let picks = || of(&channel.explain(), &one.address).picks;
    let calls = async |count: u64| {
        for _ in 0..count {
            call(&channel, "a").await.expect("an answer");
        }
        count
    };

    want(Weight::new(1_000_000).expect("a weight").into()).await;
    let weight = || of(&channel.explain(), &one.address).weight;
    until("it has another weight", || weight() == 1_000_000).await;
    until_ready(&channel, 2).await;
    let before = picks();
    let all = calls(50).await;
    assert_eq!(picks(), before + all);
    let says = of(&channel.explain(), &one.address).intent.clone();
    let says = says.expect("it is in force");
    assert!(says.contains("operator wants: weight 1000000"), "{says}");
    assert!(says.contains("itself: serving, weight 1"), "{says}");

    want(Status::Draining.into()).await;
    let left_out = || channel.explain().left_out;
    until("it is no endpoint", || left_out().len() == 1).await;
    let remark = &left_out()[0].remark;
    assert!(remark.contains("operator wants: draining"), "{remark}");
    assert!(remark.contains("itself: serving"), "{remark}");
    let before = one.seen.calls.load(Ordering::SeqCst);
    calls(50).await;
    assert_eq!(one.seen.calls.load(Ordering::SeqCst), before);

    let cleared = registry.clear_intent(&greeter(), &id).await;
    cleared.expect("it is deleted");
    until("it is an endpoint again", || left_out().is_empty()).await;
    let explained = channel.explain();
    let itself = of(&explained, &one.address);
    assert_eq!((itself.weight, &itself.intent), (1, &None));
}

#[tokio::test]
async fn an_endpoint_that_is_ready_and_that_nobody_chooses_says_so() {
    let (one, other) = (Server::start().await, Server::start().await);
    let target = format!("static:///{},{}", one.address, other.address);
    let channel =
        Channel::builder(target).register_policy("first_of_all", |_| Ok(Box::new(FirstOfAll)));
    let channel = channel.policy("first_of_all").build().expect("a channel");
    until_ready(&channel, 2).await;
    for _ in 0..40 {
        call(&channel, "a").await.expect("an answer");
    }
    let explained = channel.explain();
    let mut remarks: Vec<_> = explained
        .endpoints
        .iter()
        .map(|e| e.remark.as_deref())
        .collect();
    remarks.sort_unstable();
    let passed_over = "ready: the policy has chosen others for the last 40 calls";
    assert_eq!(remarks, [None, Some(passed_over)]);
}

/// Connects all and calls the first.
struct FirstOfAll;

struct First(std::sync::Arc<[std::sync::Arc<balance::policy::Endpoint>]>);

impl balance::policy::Policy for FirstOfAll {
    fn plan(&mut self, endpoints: &balance::policy::Endpoints<'_>) -> balance::policy::Plan {
        endpoints.connect_all(|ready| std::sync::Arc::new(First(ready)))
    }
}

impl balance::policy::Picker for First {
    fn pick(&self, _: &balance::policy::CallInfo<'_>) -> balance::policy::Pick<'_> {
        balance::policy::Pick::Ready(&self.0[0])
    }
}

#[tokio::test]
async fn the_json_has_the_keys_that_the_documentation_lists() {
    let server = Server::start().await;
    let channel = crate::to(&[&server.address]);
    let never = client(&channel).say_hello(hello("never")).await;
    assert_eq!(never.expect_err("refused").code(), Code::FailedPrecondition);
    let json = serde_json::to_value(channel.explain()).expect("JSON");
    let documented = include_str!("../../../../docs/debugging.md");
    let endpoint = &json["endpoints"][0];
    for object in [&json, endpoint, &endpoint["connections"][0]] {
        let keys = object.as_object().expect("an object").keys();
        let unknown: Vec<_> = keys
            .filter(|key| !documented.contains(&format!("`{key}`")))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    for (part, keys) in [
        ("ejection", &["why", "for_ms", "left_ms"][..]),
        (
            "refused_service_config",
            &["error", "key", "revision", "for_ms"],
        ),
    ] {
        for key in keys {
            let key = format!("`{part}.{key}`");
            assert!(documented.contains(&key), "{key}");
        }
    }
}

/// What is said of the second of two instances, of which this service config and this channel's zone leave the first.
async fn said_of_the_second(config: &str) -> Option<String> {
    let (first, second, registry) = (Server::start().await, Server::start().await, registry());
    let zone = |name| Zone::new(name).expect("a zone");
    let here = at(&first.address).with_zone(zone("here"));
    let there = at(&second.address).with_zone(zone("there"));
    let _first = put(&registry, here.with_version("v1")).await;
    let _second = put(&registry, there.with_version("v2")).await;
    let channel = Channel::builder("greeter")
        .registry(&registry)
        .service_config(format!(r#"{{"loadBalancingConfig":[{config}]}}"#))
        .zone(zone("here"))
        .build()
        .expect("a channel");
    let ready = || {
        channel
            .explain()
            .endpoints
            .iter()
            .filter(|e| e.state == "READY")
            .count()
    };
    until("both are connected", || ready() == 2).await;
    let said = || of(&channel.explain(), &second.address).remark.clone();
    until("it is said", || said().is_some()).await;
    said()
}

#[tokio::test]
async fn one_in_another_zone_says_that_the_own_one_carries_all_calls() {
    let said =
        said_of_the_second(r#"{"zone_preference":{"childPolicy":[{"round_robin":{}}]}}"#).await;
    let why = "in another zone: the channel's own, here, can carry all calls";
    assert_eq!(said.as_deref(), Some(why));
}

#[tokio::test]
async fn a_canary_without_a_share_says_who_goes_there() {
    let config = r#"{"canary":{"version":"v2","header":"x-canary","sharePercent":0,"childPolicy":[{"round_robin":{}}]}}"#;
    let said = said_of_the_second(config).await;
    let why = "a canary: all calls go to the others but for those whose x-canary says otherwise";
    assert_eq!(said.as_deref(), Some(why));
}

#[tokio::test]
async fn one_outside_the_random_subset_says_so() {
    let (servers, registry) = ([Server::start().await, Server::start().await], registry());
    let _registrations = [
        put(&registry, at(&servers[0].address)).await,
        put(&registry, at(&servers[1].address)).await,
    ];
    let config = r#"{"loadBalancingConfig":[{"random_subsetting":{"subsetSize":1,"childPolicy":[{"round_robin":{}}]}}]}"#;
    let channel = Channel::builder("greeter")
        .registry(&registry)
        .service_config(config)
        .build()
        .expect("a channel");
    let remarks = || {
        let mut remarks: Vec<_> = channel
            .explain()
            .endpoints
            .into_iter()
            .map(|e| e.remark)
            .collect();
        remarks.sort();
        remarks
    };
    let outside = "not one of the 1 at random that this channel calls";
    until("one is called, and the other is not", || {
        remarks() == [None, Some(outside.to_owned())]
    })
    .await;
}

#[tokio::test]
async fn a_panic_threshold_that_comes_later_makes_those_candidates_that_are_not_serving() {
    const PANIC: &str =
        r#"{"loadBalancingConfig": [{"panic_threshold": {"childPolicy": [{"round_robin": {}}]}}]}"#;
    let (server, registry) = (Server::start().await, registry());
    let instance = at(&server.address).with_status(Status::NotServing);
    let _registration = put(&registry, instance).await;
    let channel = to_greeter(&registry);
    let left_out = || channel.explain().left_out.len();
    until("it is no endpoint", || left_out() == 1).await;
    let document = registry::Document::new(PANIC).expect("a document");
    let set = registry.set_document(&greeter(), document).await;
    set.expect("it is kept");
    until("it is one", || left_out() == 0).await;
    call(&channel, "a").await.expect("an answer");
}
