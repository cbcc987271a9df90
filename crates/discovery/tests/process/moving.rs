//! `export` and `import`.

use std::{fs, os::unix::fs::PermissionsExt};

use registry::{Status, Weight, Zone};
use serde_json::{Value, json};
use testkit::{Port, Signal, etcd::Cluster, prometheus::Prometheus};

use crate::place::{BOUND, Place, end, instance, service};

/// A registry with an instance that says much of itself, an intent, a service config, and an intent for nobody.
async fn furnished(place: &Place) -> registry::Registration {
    let one = instance("greeter", "10.0.0.7:1")
        .with_weight(Weight::new(4).expect("a weight"))
        .with_zone(Zone::new("eu-1").expect("a zone"))
        .with_version("v2")
        .with_label("tier", "gold");
    let registration = place.register(one).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("config.json");
    fs::write(&file, r#"{"loadBalancingConfig": [{"random": {}}]}"#).expect("a file");
    let file = file.to_str().expect("a path");
    place.text(&["config", "set", "shop/basket", file]).await;
    place.text(&["drain", "greeter/10.0.0.7:1"]).await;
    place
        .text(&["weight", "--absent", "shop/basket/10.0.0.9:1", "7"])
        .await;
    registration
}

async fn exported(place: &Place) -> Value {
    let text = place.text(&["export"]).await;
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn what_is_exported_is_imported_into_another_kind_of_registry() {
    let [directory, etcd] = Place::each().await;
    for (from, to) in [(&directory, &etcd), (&etcd, &Place::directory())] {
        let registration = furnished(from).await;
        let before = exported(from).await;
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("a path");
        from.text(&["export", "--file", path]).await;

        let line = to.refusal(&["import", path]).await;
        assert!(
            line.contains("--hold") && line.contains("nothing was imported"),
            "{line}"
        );
        assert_eq!(to.json(&["intents"]).await["intents"], json!([]));

        let import = to.start(&["import", "--hold", path, "--output", "json"]);
        let told = import.wait_for_line("service_configs", BOUND).await;
        let told: Value = serde_json::from_str(&told.expect("it tells")).expect("JSON");
        let expected = json!({
            "registry": to.url, "service_configs": 1, "intents": 2, "held": 1, "already_there": 0,
        });
        assert_eq!(told, expected);
        assert_eq!(exported(to).await, before);

        import.signal(Signal::SIGINT).expect("it runs");
        assert_eq!(end(&import).await.code, Some(0));
        let left = to.registry.list(&service("greeter")).await;
        assert!(left.expect("a list").is_empty(), "what was held has left");
        assert_eq!(
            to.json(&["intents"]).await["intents"]
                .as_array()
                .map(Vec::len),
            Some(2)
        );
        registration.deregister().await.expect("it leaves");
    }
}

#[tokio::test]
async fn an_instance_that_is_there_already_is_not_pushed_out() {
    let place = Place::directory();
    let registration = furnished(&place).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path");
    place.text(&["export", "--file", path]).await;
    let imported = place.json(&["import", "--hold", path]).await;
    assert_eq!(
        (&imported["held"], &imported["already_there"]),
        (&json!(0), &json!(1))
    );
    assert!(registration.state().is_held());
    let imported = place.json(&["import", "--without-instances", path]).await;
    assert_eq!(imported["intents"], 2);
}

#[tokio::test]
async fn who_registers_meanwhile_takes_its_place_and_the_others_are_held_on() {
    for place in Place::each().await {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("a path");
        let at = |address: &str| json!({"id": address, "addresses": [address]});
        let instances = [at("10.0.0.7:1"), at("10.0.0.8:1")];
        let text = json!({"v": 1, "services": [{"service": "greeter", "instances": instances}]});
        fs::write(&file, text.to_string()).expect("a file");
        let import = place.start(&["import", "--hold", path, "--output", "json"]);
        let told = import.wait_for_line("service_configs", BOUND).await;
        assert!(told.expect("it tells").contains("\"held\":2"));

        let first = place.register(instance("greeter", "10.0.0.7:1")).await;
        let left = import
            .wait_for_line("greeter/10.0.0.7:1 is registered by", BOUND)
            .await;
        assert!(left.expect("it says so").contains("1 still held"));
        let listed = place.registry.list(&service("greeter")).await;
        assert_eq!(listed.expect("a list").len(), 2, "the other is held on");
        let second = place.register(instance("greeter", "10.0.0.8:1")).await;
        assert_eq!(end(&import).await.code, Some(0), "nothing is left to hold");
        assert!(first.state().is_held() && second.state().is_held());
    }
}

#[tokio::test]
async fn what_instances_remember_and_what_other_software_says_of_them_is_exported_too() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let remembers = json!({"v": 1, "asked": {"status": "draining"}}).to_string();
    for (address, metadata) in [
        ("10.0.0.7:1", json!(remembers)),
        ("10.0.0.8:1", json!("opaque")),
    ] {
        let value = json!({"Op": 0, "Addr": address, "Metadata": metadata}).to_string();
        let put = ["put", &format!("shop/greeter/{address}"), &value];
        cluster.etcdctl_text(&put).await.expect("it is written");
    }
    let before = exported(&place).await;
    let of = &before["services"][0];
    assert_eq!(
        of["intents"],
        json!([{"id": "10.0.0.7:1", "status": "draining", "weight": null}])
    );
    assert_eq!(of["instances"][1]["metadata"], "opaque");

    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, before.to_string()).expect("a file");
    let other = Place::directory();
    let import = other.start(&["import", "--hold", file.path().to_str().expect("a path")]);
    import
        .wait_for_line("and holds 2 instances", BOUND)
        .await
        .expect("it says so");
    assert_eq!(exported(&other).await, before);
}

#[tokio::test]
async fn what_is_no_export_is_refused_before_anything_is_written() {
    let place = Place::directory();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path");
    let bad = json!({"v": 1, "services": [
        {"service": "greeter", "intents": [{"id": "a", "status": "draining", "weight": null}]},
        {"service": "shop", "intents": [{"id": "a", "status": "fine", "weight": null}]},
    ]});
    for (text, named) in [
        ("{", "no export"),
        (&*bad.to_string(), "\"fine\" is no status"),
    ] {
        fs::write(&file, text).expect("a file");
        let line = place.refusal(&["import", path]).await;
        assert!(line.contains(named), "{line}");
    }
    let line = place.refusal(&["import", "/nowhere/registry.json"]).await;
    assert!(line.contains("/nowhere/registry.json"), "{line}");
    assert_eq!(place.json(&["intents"]).await["intents"], json!([]));
}

#[tokio::test]
async fn an_import_that_fails_halfway_tells_what_it_has_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let registry = directory.path().join("registry");
    fs::create_dir(&registry).expect("a directory");
    let ours_alone = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&registry, ours_alone).expect("it is ours");
    // Nothing can be put where a file is.
    for taken in ["_intent", "greeter"] {
        fs::write(registry.join(taken), "").expect("a file");
    }
    let place = Place::of(format!("file://{}", registry.display()));
    let exported = directory.path().join("registry.json");
    let path = exported.to_str().expect("a path");
    let config = json!({"loadBalancingConfig": [{"random": {}}]}).to_string();
    let greeter = json!({"id": "10.0.0.7:1", "addresses": ["10.0.0.7:1"]});
    let intent = json!({"id": "10.0.0.7:1", "weight": 3});
    for (service, import, told) in [
        (
            json!({"service": "shop", "service_config": config, "intents": [intent]}),
            &["import", path][..],
            "wrote 1 of 1 service config and 0 of 1 intent to file://",
        ),
        (
            json!({"service": "greeter", "service_config": config, "instances": [greeter]}),
            &["import", path, "--hold", "--registry-timeout", "10s"],
            "wrote 1 of 1 service config to file://",
        ),
    ] {
        let name = service["service"].as_str().expect("a name").to_owned();
        let text = json!({"v": 1, "services": [service]});
        fs::write(&exported, text.to_string()).expect("a file");
        let line = place.refusal(import).await;
        assert!(line.contains(told), "{line}");
        assert_eq!(
            line.contains("and no instance is held: cannot register greeter/10.0.0.7:1"),
            name == "greeter",
            "{line}"
        );
        place.text(&["config", "get", &name]).await;
    }
}

#[tokio::test]
async fn what_an_older_version_has_exported_is_imported() {
    let place = Place::directory();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path");
    // What has come to be since is not there.
    let least = json!({"v": 1, "services": [{
        "service": "greeter",
        "instances": [{"id": "10.0.0.7:1", "addresses": ["10.0.0.7:1"]}],
        "intents": [{"id": "10.0.0.7:1", "weight": 3}],
    }]});
    fs::write(&file, least.to_string()).expect("a file");
    let import = place.start(&["import", "--hold", path]);
    let told = import.wait_for_line("holds 1 instance", BOUND).await;
    told.expect("it says so");
    let of = &exported(&place).await["services"][0];
    let expected = json!([{
        "id": "10.0.0.7:1", "addresses": ["10.0.0.7:1"], "status": "serving", "weight": 1,
        "zone": null, "version": null, "labels": {}, "metadata": null,
    }]);
    assert_eq!(of["instances"], expected);
    assert_eq!(
        of["intents"],
        json!([{"id": "10.0.0.7:1", "status": null, "weight": 3}])
    );
    import.signal(Signal::SIGINT).expect("it runs");
    assert_eq!(end(&import).await.code, Some(0));
}

#[tokio::test]
async fn what_a_newer_version_says_and_this_one_does_not_know_is_refused_by_its_name() {
    let place = Place::directory();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path");
    let intent = json!({"id": "a", "status": "draining", "until": "2030-01-01"});
    let unknown = json!({"v": 1, "services": [{"service": "greeter", "intents": [intent]}]});
    // Of another version nothing is known, and nothing is said but that.
    let other = json!({"v": 2, "registries": []});
    for (text, named) in [
        (unknown.to_string(), &["`until`", "version 1", "line 1"][..]),
        (other.to_string(), &["version 2", "version 1"]),
        (json!({"services": []}).to_string(), &["missing field `v`"]),
    ] {
        fs::write(&file, text).expect("a file");
        let line = place.refusal(&["import", path]).await;
        assert!(line.contains("nothing was imported"), "{line}");
        for named in named {
            assert!(line.contains(named), "{line}");
        }
        assert!(!line.contains("registries"), "{line}");
    }
    assert_eq!(place.json(&["intents"]).await["intents"], json!([]));
}

#[tokio::test]
async fn prometheus_is_told_the_status_that_is_in_force() {
    let place = Place::directory();
    let _one = place.register(instance("greeter", "10.0.0.7:1")).await;
    place.text(&["drain", "greeter/10.0.0.7:1"]).await;
    let targets = place.text(&["export", "--format", "prometheus"]).await;
    let targets: Value = serde_json::from_str(&targets).expect("JSON");
    assert_eq!(targets[0]["labels"]["__meta_discovery_status"], "draining");
}

#[tokio::test]
async fn prometheus_finds_what_is_registered_and_what_comes_later() {
    let place = Place::directory();
    let first = instance("greeter", "127.0.0.7:1")
        .with_zone(Zone::new("eu-1").expect("a zone"))
        .with_version("v2")
        .with_label("tier", "gold");
    let _first = place.register(first).await;
    // Nobody answers there: that it is scraped is all that is asked.
    let port = Port::free().expect("a port").number().to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("targets.json");
    let path = file.to_str().expect("a path");
    let format = ["export", "--format", "prometheus", "--port", &port];
    let follow = ["--file", path, "--every", "100ms", "greeter"];
    let export = place.start(&[&format[..], &follow].concat());
    let written = async || fs::read_to_string(&file).is_ok();
    testkit::eventually(BOUND, "the targets", written).await;
    let targets: Value =
        serde_json::from_str(&fs::read_to_string(&file).expect("a file")).expect("JSON");
    let expected = json!([{
        "targets": [format!("127.0.0.7:{port}")],
        "labels": {
            "job": "greeter",
            "__meta_discovery_id": "127.0.0.7:1",
            "__meta_discovery_status": "serving",
            "__meta_discovery_zone": "eu-1",
            "__meta_discovery_version": "v2",
            "__meta_discovery_label_tier": "gold",
        },
    }]);
    assert_eq!(targets, expected);

    let configuration = format!(
        "scrape_configs:\n  - job_name: found\n    scrape_interval: 1s\n    file_sd_configs: [{{ files: ['{path}'], refresh_interval: 1s }}]\n"
    );
    let prometheus = Prometheus::start(&configuration)
        .await
        .expect("a Prometheus");
    let scraped = async |host: &str| {
        let query = format!("up{{job=\"greeter\",instance=\"{host}:{port}\"}}");
        prometheus
            .query(&query)
            .await
            .is_ok_and(|series| series.len() == 1)
    };
    let first = async || scraped("127.0.0.7").await;
    testkit::eventually(BOUND, "the first to be scraped", first).await;
    let later = instance("greeter", "127.0.0.8:1").with_status(Status::Draining);
    let _later = place.register(later).await;
    let second = async || scraped("127.0.0.8").await;
    testkit::eventually(BOUND, "the second to be scraped", second).await;
    export.signal(Signal::SIGTERM).expect("it runs");
    assert_eq!(end(&export).await.code, Some(0));
}

#[tokio::test]
async fn what_is_exported_of_one_dialect_is_imported_into_another() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = |dialect: &str| Place::in_dialects(cluster.url(dialect), dialect);
    let (from, to) = (place("kratos"), place("go-zero"));
    let registration = from.register(instance("greeter", "10.0.0.7:1")).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path");
    from.text(&["export", "--file", path]).await;
    let import = to.start(&["import", "--hold", path, "--output", "json"]);
    let told = import.wait_for_line("\"held\":1", BOUND).await;
    told.expect("it is held");
    let shown = to.json(&["why", "greeter"]).await;
    let one = &shown["instances"][0];
    assert_eq!(one["instance"]["addresses"], json!(["10.0.0.7:1"]), "{one}");
    assert_eq!(one["places"][0]["dialect"], "go-zero", "{one}");
    drop(registration);
}
