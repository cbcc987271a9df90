//! `resolve` and `config`.

use std::fs;

use serde_json::{Value, json};
use testkit::{Port, fleet::Fleet};

use crate::place::{Place, instance};

/// How often each instance was picked.
fn picks(shown: &Value) -> Vec<u64> {
    let instances = shown["instances"].as_array().expect("a list");
    let picks = instances.iter().map(|one| one["picks"].as_u64());
    picks.map(|picks| picks.expect("a number")).collect()
}

#[tokio::test]
async fn a_target_is_resolved_as_its_callers_resolve_it() {
    for place in Place::each().await {
        let mut fleet = Fleet::new(&place.url).expect("a fleet");
        let three = fleet.add_many(3).await.expect("three greeters");
        registered(&place, 3).await;
        let shown = place.json(&["resolve", "greeter", "--picks", "300"]).await;
        assert_eq!(
            (&shown["state"], &shown["picks"]),
            (&json!("READY"), &json!(300))
        );
        assert_eq!(picks(&shown), [100, 100, 100], "each in turn: {shown}");

        let one = place
            .json(&["resolve", "greeter", "--policy", "pick_first"])
            .await;
        let mut all_to_one = picks(&one);
        all_to_one.sort_unstable();
        assert_eq!(all_to_one, [0, 0, 100], "{one}");

        let hashed = [
            "resolve",
            "greeter",
            "--policy",
            "ring_hash",
            "--key",
            "4711",
        ];
        let (first, second) = (place.json(&hashed).await, place.json(&hashed).await);
        assert_eq!(picks(&first), picks(&second), "a key stays where it is");
        assert!(picks(&first).contains(&100), "{first}");

        let drained = format!("greeter/{}", three[0]);
        place.text(&["drain", &drained]).await;
        let shown = place.json(&["resolve", "greeter"]).await;
        assert_eq!(picks(&shown), [50, 50], "{shown}");
        assert_eq!(shown["left_out"][0]["id"], three[0].as_str());
        let table = place.text(&["resolve", "greeter", "--picks", "10"]).await;
        for said in [
            "left out",
            "an operator wants: draining",
            "50.0 %",
            "greeter is READY",
        ] {
            assert!(table.contains(said), "{table}");
        }
    }
}

/// Waits until so many greeters are listed.
async fn registered(place: &Place, count: usize) {
    testkit::eventually(
        crate::place::BOUND,
        "the greeters to register",
        async || {
            let listed = place.json(&["list", "greeter"]).await;
            listed["instances"].as_array().map(Vec::len) == Some(count)
        },
    )
    .await;
}

#[tokio::test]
async fn a_call_that_would_fail_is_told_with_its_cause() {
    let place = Place::directory();
    let line = place.refusal(&["resolve", "greeter"]).await;
    assert!(
        line.contains("UNAVAILABLE") && line.contains("no instance of greeter"),
        "{line}"
    );
    // Nobody listens there.
    let port = Port::free().expect("a port");
    let _registration = place.register(instance("greeter", &port.address())).await;
    let line = place.refusal(&["resolve", "greeter"]).await;
    assert!(
        line.contains("UNAVAILABLE") && line.contains("refused"),
        "{line}"
    );
    for (arguments, named) in [
        (
            &["resolve", "greeter", "--policy", "fastest"][..],
            "round_robin",
        ),
        (&["resolve", "etcd:///greeter"], "another kind"),
        (&["resolve", "gopher:///greeter"], "gopher"),
    ] {
        let line = place.refusal(arguments).await;
        assert!(line.contains(named), "{line}");
    }
}

#[tokio::test]
async fn a_service_config_is_checked_written_read_and_deleted() {
    for place in Place::each().await {
        let line = place.refusal(&["config", "get", "greeter"]).await;
        assert!(line.contains("greeter has no service config"), "{line}");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("greeter.json");
        let path = file.to_str().expect("a path");
        let text = "{\n  \"loadBalancingConfig\": [{\"least_request\": {}}]\n}";
        fs::write(&file, text).expect("a file");
        let written = place.json(&["config", "set", "greeter", path]).await;
        assert!(
            written["key"].is_string() && written["revision"].is_u64(),
            "{written}"
        );
        assert_eq!(place.text(&["config", "get", "greeter"]).await, text);
        assert_eq!(place.json(&["config", "get", "greeter"]).await, written);
        let shown = place.json(&["config", "get", "greeter"]).await;
        assert_eq!(
            shown["config"],
            json!({"loadBalancingConfig": [{"least_request": {}}]})
        );
        assert_eq!(shown["text"], text);
        assert!(
            shown["key"].is_string() && shown["revision"].is_u64(),
            "{shown}"
        );

        fs::write(&file, r#"{"loadBalancingConfig": [{"fastest": {}}]}"#).expect("a file");
        let line = place.refusal(&["config", "set", "greeter", path]).await;
        assert!(
            line.contains("fastest") && line.contains("was not written"),
            "{line}"
        );
        assert_eq!(place.text(&["config", "get", "greeter"]).await, text);
        let line = place
            .refusal(&["config", "set", "greeter", "/nowhere/a.json"])
            .await;
        assert!(line.contains("/nowhere/a.json"), "{line}");

        place.text(&["config", "delete", "greeter"]).await;
        place.refusal(&["config", "get", "greeter"]).await;
    }
}

#[tokio::test]
async fn what_is_no_service_config_is_deleted_as_well() {
    let place = Place::directory();
    let directory = place.url.strip_prefix("file://").expect("a directory");
    let file = format!("{directory}/_service_config/greeter.json");
    let config = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&config, "{}").expect("a file");
    let path = config.path().to_str().expect("a path");
    place.text(&["config", "set", "greeter", path]).await;
    fs::write(&file, b"\xff").expect("it is there");
    place.refusal(&["config", "get", "greeter"]).await;
    place.text(&["config", "delete", "greeter"]).await;
    let line = place.refusal(&["config", "delete", "greeter"]).await;
    assert!(line.contains("has nothing of greeter"), "{line}");
}

#[tokio::test]
async fn a_version_gets_the_share_of_the_calls_that_it_is_given_until_that_is_taken_back() {
    let place = Place::directory();
    let mut fleet = Fleet::new(&place.url).expect("a fleet");
    fleet.add().await.expect("a greeter");
    fleet.set_env("DISCOVERY__SERVER__VERSION", "v2");
    let canary = fleet.add().await.expect("another version");
    registered(&place, 2).await;
    let picks_of_canary = async || {
        let shown = place.json(&["resolve", "greeter", "--picks", "100"]).await;
        let mut instances = shown["instances"].as_array().expect("a list").iter();
        let picks = instances.find(|one| one["id"] == canary.as_str());
        picks.expect("the canary")["picks"].as_u64()
    };

    let directory = tempfile::tempdir().expect("a directory");
    let base = directory.path().join("base.json").display().to_string();
    let text = r#"{"methodConfig": [{"name": [{}], "timeout": "1s"}]}"#;
    fs::write(&base, text).expect("a file");
    let share = async |share: &str| {
        let base = ["--base", &base, "--version", "v2"];
        let arguments = [&["config", "canary", "greeter", share][..], &base].concat();
        place.text(&arguments).await
    };
    for (percent, picks) in [("0", 0), ("100", 100)] {
        let told = share(percent).await;
        assert!(told.contains(&format!("gets {percent} %")), "{told}");
        assert_eq!(picks_of_canary().await, Some(picks));
    }
    let config = place.json(&["config", "get", "greeter"]).await;
    assert_eq!(config["config"]["methodConfig"][0]["timeout"], "1s");

    share("off").await;
    assert_eq!(picks_of_canary().await, Some(50), "like any other");
    let line = place.refusal(&["config", "get", "greeter"]).await;
    assert!(line.contains("greeter has no service config"), "{line}");

    // What was there before stays there.
    place.text(&["config", "set", "greeter", &base]).await;
    let told = share("off").await;
    assert!(told.contains("no share of its own"), "{told}");
    share("7").await;
    share("70").await;
    share("off").await;
    let config = place.json(&["config", "get", "greeter"]).await;
    assert_eq!(config["text"], text, "word for word");
}
