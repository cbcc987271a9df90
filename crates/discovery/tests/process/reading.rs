//! Registries of others: etcd in each dialect, and a list that nobody changes.

use serde_json::{Value, json};
use testkit::{Port, etcd::Cluster, fleet::Fleet};

use crate::place::{BOUND, Place, instance};

const DIALECTS: [&str; 9] = [
    "etcd", "qsf", "grpc-lb", "go-zero", "kratos", "kitex", "go-micro", "gopherex", "plain",
];

/// The addresses of the instances that a command's JSON has.
fn addresses(instances: &Value) -> Vec<&str> {
    let instances = instances.as_array().expect("a list").iter();
    let all = instances.map(|one| one["addresses"][0].as_str().expect("an address"));
    all.collect()
}

#[tokio::test]
async fn an_instance_is_shown_in_whatever_dialect_it_is_registered() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    for dialect in DIALECTS {
        let place = Place::in_dialects(cluster.url(&format!("in-{dialect}")), dialect);
        let mut fleet = Fleet::new(&place.url).expect("a fleet");
        fleet.set_env("DISCOVERY__REGISTRY__DIALECTS", dialect);
        let greeter = fleet.add().await.expect("a greeter");
        let listed = async || {
            let shown = place.json(&["list", "greeter"]).await;
            addresses(&shown["instances"]) == [&*greeter]
        };
        testkit::eventually(BOUND, "the greeter to register", listed).await;

        let shown = place.json(&["services"]).await;
        let expected = json!([{
            "service": "greeter", "instances": 1, "serving": 1, "draining": 0, "not_serving": 0,
        }]);
        assert_eq!(shown["services"], expected, "{dialect}");
        let shown = place.json(&["resolve", "greeter", "--picks", "3"]).await;
        assert_eq!(addresses(&shown["instances"]), [&*greeter], "{dialect}");
        assert_eq!(shown["instances"][0]["picks"], 3, "{dialect}");
        let shown = place.json(&["why", "greeter"]).await;
        let one = &shown["instances"][0];
        assert_eq!(one["called"], true, "{dialect}: {one}");
        let stands = one["places"].as_array().expect("a list");
        assert_eq!(stands.len(), 1, "{dialect}: {one}");
        assert_eq!(stands[0]["dialect"], dialect);
        let keys = cluster
            .keys(&format!("in-{dialect}/"))
            .await
            .expect("the keys");
        let key = stands[0]["key"].as_str().expect("a key");
        assert!(keys.contains_key(key), "{dialect}: {key} of {keys:?}");
        let exported = place.json(&["export"]).await;
        let of = &exported["services"][0];
        assert_eq!(addresses(&of["instances"]), [&*greeter], "{dialect}");

        // Whoever reads another dialect sees nobody.
        let other = if dialect == "kratos" {
            "kitex"
        } else {
            "kratos"
        };
        let elsewhere = Place::in_dialects(place.url.clone(), other);
        assert_eq!(elsewhere.json(&["services"]).await["services"], json!([]));
        let line = elsewhere.refusal(&["why", "greeter"]).await;
        assert!(
            line.contains("the service greeter has no instance"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn an_instance_is_drained_by_the_name_that_its_dialect_gives_it() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    for dialect in DIALECTS {
        let place = Place::in_dialects(cluster.url(&format!("in-{dialect}")), dialect);
        let _registration = place.register(instance("greeter", "10.0.0.7:1")).await;
        let drained = place.json(&["drain", "10.0.0.7:1"]).await;
        assert_eq!(drained["registered"], true, "{dialect}");
        let shown = place.json(&["services"]).await;
        assert_eq!(shown["services"][0]["draining"], 1, "{dialect}: {shown}");
        let shown = place.json(&["why", "greeter/10.0.0.7:1"]).await;
        assert_eq!(shown["instances"][0]["called"], false, "{dialect}: {shown}");
    }
}

#[tokio::test]
async fn a_fixed_list_is_shown_like_any_registry() {
    let directory = Place::directory();
    let mut fleet = Fleet::new(&directory.url).expect("a fleet");
    let greeter = fleet.add().await.expect("a greeter");
    let away = Port::free().expect("a port").address();
    let place = Place::fixed(&json!({"greeter": [
        greeter,
        {"id": "own", "addresses": [away], "weight": 3, "zone": "eu-1", "labels": {"tier": "gold"}},
    ]}));
    let shown = place.json(&["services"]).await;
    assert_eq!(shown["services"][0]["instances"], 2);
    let shown = place.json(&["list", "greeter"]).await;
    let own = json!({
        "service": "greeter",
        "id": "own",
        "addresses": [away],
        "status": "serving",
        "weight": 3,
        "zone": "eu-1",
        "version": null,
        "labels": {"tier": "gold"},
        "own_status": "serving",
        "own_weight": 3,
        "intent": null,
        "incarnation": null,
        "key": "greeter[1]",
        "revision": 1,
    });
    assert_eq!(shown["instances"][1], own);
    let shown = place.json(&["resolve", "greeter", "--picks", "7"]).await;
    let picks = |place: usize| &shown["instances"][place]["picks"];
    assert_eq!((picks(0), picks(1)), (&json!(7), &json!(0)), "{shown}");
    assert!(shown["instances"][1]["remark"].is_string(), "{shown}");
    let shown = place.json(&["why", "greeter/own"]).await;
    assert_eq!(shown["instances"][0]["instance"], own);
    let stands = &shown["instances"][0]["places"][0];
    assert_eq!(stands["lease"], Value::Null);
    let held_by = stands["held_by"].as_str().expect("a text");
    assert!(held_by.contains("stays while the list has it"), "{held_by}");
    let exported = place.json(&["export", "greeter"]).await;
    let of = &exported["services"][0];
    assert_eq!(addresses(&of["instances"]), [&*greeter, &*away]);
    assert_eq!(of["instances"][1]["labels"], json!({"tier": "gold"}));
    let watch = place.start(&["watch", "greeter"]);
    let line = watch.wait_for_line("greeter/own", BOUND).await;
    assert!(line.expect("it is told").contains("listed"));
}

#[tokio::test]
async fn nothing_is_changed_in_a_fixed_list_and_it_is_said_why() {
    let place = Place::fixed(&json!({"greeter": ["10.0.0.7:1"]}));
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: Value| {
        let path = directory.path().join(name);
        std::fs::write(&path, content.to_string()).expect("a file");
        path.display().to_string()
    };
    let config = file(
        "config.json",
        json!({"loadBalancingConfig": [{"random": {}}]}),
    );
    let one = json!({"id": "10.0.0.8:1", "addresses": ["10.0.0.8:1"]});
    let instances = json!({"v": 1, "services": [{"service": "greeter", "instances": [one]}]});
    let instances = file("instances.json", instances);
    let started = directory.path().join("started").display().to_string();
    for (arguments, why) in [
        (&["drain", "greeter/10.0.0.7:1"][..], "keeps no intents"),
        (&["weight", "10.0.0.7:1", "3"], "keeps no intents"),
        (&["deregister", "--yes", "10.0.0.7:1"], "keeps no intents"),
        (&["config", "set", "greeter", &config], "keeps no documents"),
        (&["config", "canary", "greeter", "5"], "keeps no documents"),
        (&["import", "--hold", &instances], "is a fixed list"),
        (&["register", "web", "10.0.0.8:1"], "is a fixed list"),
        (
            &["register", "web", "10.0.0.8:1", "--", "touch", &started],
            "is a fixed list",
        ),
    ] {
        let line = place.refusal(arguments).await;
        assert!(line.contains(&place.url) && line.contains(why), "{line}");
    }
    assert!(
        !std::path::Path::new(&started).exists(),
        "it is not started for nothing"
    );
    // What is so already counts as done.
    for arguments in [
        &["undrain", "greeter/10.0.0.7:1"][..],
        &["weight", "greeter/10.0.0.7:1", "own"],
        &["config", "delete", "greeter"],
        &["config", "canary", "greeter", "off"],
    ] {
        place.text(arguments).await;
    }
}

#[tokio::test]
async fn a_fixed_list_that_is_none_is_refused_with_its_file() {
    let place = Place::directory();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("list.json");
    let url = format!("fixed://{}", path.display());
    for content in [None, Some("[]"), Some(r#"{"greeter": ["nowhere"]}"#)] {
        if let Some(content) = content {
            std::fs::write(&path, content).expect("a file");
        }
        let line = place.refusal(&["--registry", &url, "services"]).await;
        assert!(line.contains(path.to_str().expect("a path")), "{line}");
    }
}
