//! `why`.

use serde_json::{Value, json};
use testkit::etcd::Cluster;

use crate::place::{Place, instance};

#[tokio::test]
async fn an_instance_in_etcd_is_explained_with_its_lease_and_each_of_its_dialects() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::in_dialects(cluster.url("shop"), "etcd,kratos");
    let _registration = place.register(instance("greeter", "10.0.0.7:1")).await;
    let shown = place.json(&["why", "greeter", "10.0.0.7:1"]).await;
    let one = &shown["instances"][0];
    assert_eq!(
        (&one["id"], &one["called"]),
        (&json!("10.0.0.7:1"), &json!(true))
    );
    let keys = cluster.keys("shop/").await.expect("the keys");
    let places = one["places"].as_array().expect("a list");
    assert_eq!(places.len(), 2, "{one}");
    for (place, dialect) in places.iter().zip(["etcd", "kratos"]) {
        assert_eq!(place["dialect"], dialect);
        let key = &keys[place["key"].as_str().expect("a key")];
        assert_eq!(place["revision"], key.written, "{place}");
        assert_eq!(place["lease"]["ttl_s"], 600, "{place}");
        let left = place["lease"]["remaining_s"].as_u64().expect("a number");
        assert!((1..=600).contains(&left), "{place}");
    }
    assert_eq!(places[0]["lease"]["id"], places[1]["lease"]["id"]);
}

#[tokio::test]
async fn a_key_without_a_lease_is_told() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let put = [
        "put",
        "shop/greeter/10.0.0.7:1",
        r#"{"Op":0,"Addr":"10.0.0.7:1","Metadata":null}"#,
    ];
    cluster.etcdctl_text(&put).await.expect("it is written");
    let shown = place.json(&["why", "greeter"]).await;
    let stands = &shown["instances"][0]["places"][0];
    assert_eq!(stands["lease"], Value::Null);
    assert!(
        stands["held_by"]
            .as_str()
            .is_some_and(|said| said.starts_with("no lease")),
        "{stands}"
    );
    let table = place.text(&["why", "greeter"]).await;
    assert!(table.contains("until somebody deletes the key"), "{table}");
}

#[tokio::test]
async fn what_keeps_calls_from_an_instance_is_named() {
    for place in Place::each().await {
        let registration = place.register(instance("greeter", "10.0.0.7:1")).await;
        let table = place.text(&["why", "greeter"]).await;
        assert!(
            table.contains("is called") && table.contains("no operator wants otherwise"),
            "{table}"
        );
        place.text(&["drain", "greeter/10.0.0.7:1"]).await;
        let shown = place.json(&["why", "greeter", "10.0.0.7:1"]).await;
        let one = &shown["instances"][0];
        assert_eq!(one["called"], false);
        assert_eq!(
            one["why"],
            "an operator wants it draining; it says itself that it is serving"
        );
        assert!(one["intent_key"].is_string(), "{one}");
        registration.deregister().await.expect("it leaves");
        let gone = place.text(&["why", "greeter", "10.0.0.7:1"]).await;
        assert!(
            gone.contains("is not called") && gone.contains("not registered"),
            "{gone}"
        );

        let line = place.refusal(&["why", "greeter", "10.0.0.8:1"]).await;
        assert!(line.contains("10.0.0.8:1"), "{line}");
    }
}

#[tokio::test]
async fn an_instance_is_named_as_everywhere_else() {
    for place in Place::each().await {
        let _greeter = place.register(instance("greeter", "10.0.0.7:1")).await;
        let _basket = place.register(instance("shop/basket", "10.0.0.9:1")).await;
        // A service has this name, and an instance of another service.
        let _both = place
            .register(instance("greeter", "10.0.0.8:1").with_id("own".parse().expect("an id")))
            .await;
        let _own = place.register(instance("greeter/own", "10.0.0.8:2")).await;
        for (arguments, service, id) in [
            (&["greeter", "10.0.0.7:1"][..], "greeter", "10.0.0.7:1"),
            (&["greeter/10.0.0.7:1"], "greeter", "10.0.0.7:1"),
            (&["10.0.0.7:1"], "greeter", "10.0.0.7:1"),
            (&["shop/basket"], "shop/basket", "10.0.0.9:1"),
            (&["shop/basket", "10.0.0.9:1"], "shop/basket", "10.0.0.9:1"),
            (&["shop/basket/10.0.0.9:1"], "shop/basket", "10.0.0.9:1"),
            (&["greeter/own"], "greeter/own", "10.0.0.8:2"),
            (&["greeter", "own"], "greeter", "own"),
        ] {
            let shown = place.json(&[&["why"], arguments].concat()).await;
            assert_eq!(shown["service"], service, "{arguments:?}");
            let instances = shown["instances"].as_array().expect("a list");
            let ids: Vec<_> = instances.iter().map(|one| &one["id"]).collect();
            assert_eq!(ids, [id], "{arguments:?}");
        }
        let line = place.refusal(&["why", "greeter/10.0.0.6:1"]).await;
        assert!(
            line.contains("no instance 10.0.0.6:1") && line.contains("10.0.0.7:1"),
            "{line}"
        );
        let ended = place.run(&["why", "a b"]).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
    }
}
