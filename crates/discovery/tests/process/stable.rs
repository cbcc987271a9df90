//! What `--output json` prints, whole: others rely on each field of it. That of the commands that are not here is asserted whole
//! where they are tested.

use registry::{Origin, Weight};
use serde_json::{Value, json};
use testkit::{Port, Signal, etcd::Cluster, fleet::Fleet};

use crate::place::{BOUND, Place, end, instance, service};

/// Where the only instance of `greeter` stands, and since when.
async fn origin(place: &Place) -> Origin {
    let listed = place.registry.list(&service("greeter")).await;
    let listed = listed.expect("a list");
    let one = listed.instances().next().expect("it is there");
    one.origin().expect("it was read").clone()
}

/// The instance at 10.0.0.7:1 that says nothing of itself, as all commands show it.
async fn form(place: &Place) -> Value {
    let listed = place.json(&["list", "greeter"]).await;
    let incarnation = &listed["instances"][0]["incarnation"];
    assert!(incarnation.is_string(), "{listed}");
    let origin = origin(place).await;
    json!({
        "service": "greeter",
        "id": "10.0.0.7:1",
        "addresses": ["10.0.0.7:1"],
        "status": "serving",
        "weight": 1,
        "zone": null,
        "version": null,
        "labels": {},
        "own_status": "serving",
        "own_weight": 1,
        "intent": null,
        "incarnation": incarnation,
        "key": &*origin.key,
        "revision": origin.revision.0,
    })
}

/// Takes the time out of an event, which is one in UTC.
fn untimed(line: &str) -> Value {
    let mut event: Value = serde_json::from_str(line).expect("an object");
    let time = event.as_object_mut().expect("an object").remove("time");
    let time = time.expect("a time");
    let time = time.as_str().expect("a text");
    assert!(
        humantime::parse_rfc3339(time).is_ok() && time.ends_with('Z'),
        "{time}"
    );
    event
}

#[tokio::test]
async fn an_event_of_watch() {
    let mut cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let watch = place.start(&["watch", "greeter", "--output", "json"]);
    let mut lines = watch.lines();
    let mut next = async || loop {
        let line = tokio::time::timeout(BOUND, lines.next()).await;
        let line = line.expect("it tells").expect("it goes on");
        if !line.stderr {
            return untimed(&line.text);
        }
    };
    let told = |event: &str, revision: &Value, instance: &Value, changes: Value| {
        json!({
            "event": event, "service": "greeter", "revision": revision, "instance": instance,
            "changes": changes, "cause": null,
        })
    };
    let none = Value::Null;
    let empty = next().await;
    assert_eq!(empty, told("empty", &empty["revision"], &none, json!([])));
    assert!(empty["revision"].is_u64(), "{empty}");

    let registration = place.register(instance("greeter", "10.0.0.7:1")).await;
    let before = form(&place).await;
    assert_eq!(
        next().await,
        told("added", &before["revision"], &before, json!([]))
    );

    let heavy = Weight::new(5).expect("a weight");
    registration.update(|one| one.with_weight(heavy)).await;
    let changed = next().await;
    let differences = json!([
        {"field": "weight", "from": "1", "to": "5"},
        {"field": "own_weight", "from": "1", "to": "5"},
    ]);
    let mut now = before.clone();
    (now["weight"], now["own_weight"]) = (json!(5), json!(5));
    now["revision"] = origin(&place).await.revision.0.into();
    assert_eq!(
        changed,
        told("changed", &now["revision"], &now, differences)
    );

    registration.deregister().await.expect("it leaves");
    let mut removed = next().await;
    // It is seen to drain first, where that is seen in time.
    if removed["event"] == "changed" {
        removed = next().await;
    }
    let was = removed["instance"].clone();
    assert_eq!(was["id"], "10.0.0.7:1");
    assert_eq!(
        removed,
        told("removed", &removed["revision"], &was, json!([]))
    );

    cluster.kill(0).await.expect("it is killed");
    let stale = next().await;
    assert!(stale["cause"].is_string(), "{stale}");
    let mut expected = told("stale", &removed["revision"], &none, json!([]));
    expected["cause"] = stale["cause"].clone();
    assert_eq!(stale, expected);
    watch.signal(Signal::SIGINT).expect("it runs");
    assert_eq!(end(&watch).await.code, Some(0));
}

#[tokio::test]
async fn resolve() {
    let place = Place::directory();
    let mut fleet = Fleet::new(&place.url).expect("a fleet");
    fleet.set_env("DISCOVERY__SERVER__ZONE", "eu-1");
    fleet.set_env("DISCOVERY__SERVER__VERSION", "v2");
    let greeter = fleet.add().await.expect("a greeter");
    let drained = place.register(instance("greeter", "10.0.0.7:1")).await;
    place.text(&["drain", "greeter/10.0.0.7:1"]).await;
    let one = async || {
        place.json(&["list", "greeter"]).await["instances"]
            .as_array()
            .map(Vec::len)
            == Some(2)
    };
    testkit::eventually(BOUND, "both to be listed", one).await;
    let shown = place.json(&["resolve", "greeter", "--picks", "4"]).await;
    let left_out = &shown["left_out"][0];
    assert!(
        left_out["key"].is_string() && left_out["remark"].is_string(),
        "{shown}"
    );
    assert!(shown["revision"].is_u64(), "{shown}");
    let expected = json!({
        "target": "greeter",
        "state": "READY",
        "revision": shown["revision"],
        "picks": 4,
        "instances": [{
            "id": greeter,
            "addresses": [greeter],
            "zone": "eu-1",
            "version": "v2",
            "weight": 1,
            "status": "serving",
            "state": "READY",
            "picks": 4,
            "share": 1.0,
            "remark": null,
        }],
        "left_out": [{"id": "10.0.0.7:1", "key": left_out["key"], "remark": left_out["remark"]}],
        "service_config": "{}",
        "service_config_key": null,
    });
    assert_eq!(shown, expected);
    drop(drained);
}

#[tokio::test]
async fn why() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let _registration = place.register(instance("greeter", "10.0.0.7:1")).await;
    place.text(&["weight", "greeter/10.0.0.7:1", "3"]).await;
    let shown = place.json(&["why", "greeter"]).await;
    let mut of = form(&place).await;
    of["weight"] = json!(3);
    of["intent"] = json!({"status": null, "weight": 3});
    let one = &shown["instances"][0];
    let (stands, lease) = (&one["places"][0], &one["places"][0]["lease"]);
    for text in [
        &one["why"],
        &stands["held_by"],
        &stands["seen_by"],
        &lease["id"],
    ] {
        assert!(
            text.as_str().is_some_and(|text| !text.is_empty()),
            "{shown}"
        );
    }
    assert!(
        lease["remaining_s"]
            .as_u64()
            .is_some_and(|left| left <= 600),
        "{shown}"
    );
    let expected = json!({
        "registry": place.url,
        "service": "greeter",
        "instances": [{
            "id": "10.0.0.7:1",
            "called": true,
            "why": one["why"],
            "instance": of,
            "intent": {"status": null, "weight": 3},
            "intent_key": "shop/_intent/greeter/10.0.0.7:1",
            "places": [{
                "key": "shop/greeter/10.0.0.7:1",
                "revision": of["revision"],
                "dialect": "etcd",
                "lease": {"id": lease["id"], "ttl_s": 600, "remaining_s": lease["remaining_s"]},
                "held_by": stands["held_by"],
                "seen_by": stands["seen_by"],
            }],
        }],
    });
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn doctor() {
    let place = Place::directory();
    let port = Port::free().expect("a port");
    let _registration = place.register(instance("greeter", &port.address())).await;
    place
        .text(&["drain", "--absent", "greeter/10.0.0.9:1"])
        .await;
    let ended = place.run(&["doctor", "--output", "json"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let shown: Value = serde_json::from_str(&ended.stdout[0]).expect("an object");
    let findings = shown["findings"].as_array().expect("a list");
    let said = |check: &str, level: &str| {
        let one = findings
            .iter()
            .find(|one| one["check"] == check && one["level"] == level);
        let one = one.unwrap_or_else(|| panic!("{check}: {shown}"));
        assert!(one["found"].is_string(), "{one}");
        assert_eq!(one["advice"].is_string(), level != "fine", "{one}");
        (one["found"].clone(), one["advice"].clone())
    };
    let finding = |check: &str, level: &str, subject: &str| {
        let (found, advice) = said(check, level);
        json!({
            "level": level, "check": check, "subject": subject, "found": found, "advice": advice,
        })
    };
    let expected = json!({
        "registry": place.url,
        "findings": [
            finding("instance", "problem", &format!("greeter/{}", port.address())),
            finding("intent", "warning", "greeter/10.0.0.9:1"),
            finding("member", "fine", &place.url),
            finding("registry", "fine", &place.url),
            finding("lease", "fine", &place.url),
            finding("instance", "fine", &place.url),
        ],
    });
    assert_eq!(shown, expected);
}
