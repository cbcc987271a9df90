//! `drain`, `undrain`, `weight`, `deregister` and `intents`.

use std::process::Command;

use registry::{Registration, Status};
use serde_json::{Value, json};
use testkit::process::Process;

use crate::place::{Place, end, instance, service};

async fn wanted(place: &Place) -> Value {
    place.json(&["intents"]).await["intents"].take()
}

/// What a caller sees of `greeter/10.0.0.7:1`.
async fn seen(place: &Place) -> (Status, u32) {
    let listed = place.registry.list(&service("greeter")).await;
    let listed = listed.expect("a list");
    let one = listed.instances().next().expect("it is there");
    (one.status, one.weight.get())
}

async fn greeter(place: &Place) -> Registration {
    place.register(instance("greeter", "10.0.0.7:1")).await
}

#[tokio::test]
async fn what_is_wanted_is_in_force_at_once_and_outlives_the_registration() {
    for place in Place::each().await {
        let registration = greeter(&place).await;
        let drained = place.json(&["drain", "greeter/10.0.0.7:1"]).await;
        let expected = json!({
            "registry": place.url,
            "service": "greeter",
            "id": "10.0.0.7:1",
            "registered": true,
            "intent": {"status": "draining", "weight": null},
        });
        assert_eq!(drained, expected);
        assert_eq!(seen(&place).await, (Status::Draining, 1));
        place.text(&["weight", "10.0.0.7:1", "5"]).await;
        assert_eq!(seen(&place).await, (Status::Draining, 5));
        registration.deregister().await.expect("it leaves");
        let _again = greeter(&place).await;
        assert_eq!(seen(&place).await, (Status::Draining, 5));

        place.text(&["undrain", "10.0.0.7:1"]).await;
        assert_eq!(seen(&place).await, (Status::Serving, 5));
        let said = place.text(&["weight", "10.0.0.7:1", "own"]).await;
        assert_eq!(
            said,
            "greeter/10.0.0.7:1 has the weight that it says itself"
        );
        assert_eq!(seen(&place).await, (Status::Serving, 1));
        assert_eq!(wanted(&place).await, json!([]));
        // Once more: it is so already.
        place.text(&["undrain", "10.0.0.7:1"]).await;
        assert_eq!(wanted(&place).await, json!([]));
    }
}

#[tokio::test]
async fn intents_are_shown_with_whether_their_instances_are_there() {
    for place in Place::each().await {
        assert!(
            place
                .text(&["intents"])
                .await
                .contains("no operator wants anything")
        );
        let _registration = greeter(&place).await;
        place.text(&["weight", "greeter/10.0.0.7:1", "2"]).await;
        place
            .text(&["drain", "--absent", "shop/basket/10.0.0.9:1"])
            .await;
        let rows = wanted(&place).await;
        let told: Vec<_> = rows
            .as_array()
            .expect("a list")
            .iter()
            .map(|row| {
                assert!(row["key"].is_string() && row["revision"].is_u64(), "{row}");
                json!([
                    row["service"],
                    row["id"],
                    row["intent"],
                    row["registered"],
                    row["remembered"]
                ])
            })
            .collect();
        assert_eq!(
            told,
            [
                json!(["greeter", "10.0.0.7:1", {"status": null, "weight": 2}, true, false]),
                json!(["shop/basket", "10.0.0.9:1", {"status": "draining", "weight": null}, false, false]),
            ]
        );
        let table = place.text(&["intents"]).await;
        assert!(table.contains("is not registered"), "{table}");
        let one = place.json(&["intents", "greeter"]).await;
        assert_eq!(one["intents"].as_array().map(Vec::len), Some(1));
    }
}

#[tokio::test]
async fn an_instance_that_is_not_there_is_refused_with_those_that_are() {
    for place in Place::each().await {
        let _registration = greeter(&place).await;
        let _basket = place.register(instance("shop/basket", "10.0.0.7:1")).await;
        for (arguments, named) in [
            (&["drain", "greeter/10.0.0.8:1"][..], "10.0.0.7:1"),
            (&["weight", "greeter/10.0.0.8:1", "3"], "10.0.0.7:1"),
            (&["undrain", "greeter/10.0.0.8:1"], "10.0.0.7:1"),
            (&["drain", "nobody/10.0.0.8:1"], "nobody has no instance"),
            (&["drain", "10.0.0.8:1"], "SERVICE/10.0.0.8:1"),
            (
                &["drain", "10.0.0.7:1"],
                "greeter/10.0.0.7:1, shop/basket/10.0.0.7:1",
            ),
        ] {
            let line = place.refusal(arguments).await;
            assert!(line.contains(named), "{line}");
        }
        assert_eq!(wanted(&place).await, json!([]));
    }
}

#[tokio::test]
async fn who_drains_by_itself_is_not_undrained_by_an_operator() {
    let place = Place::directory();
    let registration = greeter(&place).await;
    registration.drain().await;
    let line = place.refusal(&["undrain", "greeter/10.0.0.7:1"]).await;
    assert!(line.contains("says itself that it is draining"), "{line}");
}

#[tokio::test]
async fn who_is_deregistered_drains_for_good_registered_or_not() {
    for place in Place::each().await {
        place
            .text(&["deregister", "--absent", "greeter/10.0.0.7:1"])
            .await;
        let _registration = greeter(&place).await;
        assert_eq!(seen(&place).await, (Status::Draining, 1));
    }
}

/// `deregister greeter/10.0.0.7:1` at a terminal at which that is typed, and no more.
fn deregister_at_a_terminal(place: &Place, typed: &str, further: &str) -> Process {
    let line = format!(
        "'{}' --registry '{}' deregister greeter/10.0.0.7:1 {further}",
        env!("CARGO_BIN_EXE_discovery"),
        place.url
    );
    let typing = r#"printf %s "$1" | script --quiet --return --command "$2" /dev/null"#;
    let mut command = Command::new("sh");
    command.args(["-c", typing, "sh", typed, &line]);
    Process::spawn("discovery at a terminal", command).expect("a shell is there")
}

#[tokio::test]
async fn a_person_at_a_terminal_is_asked_before_an_instance_is_deregistered() {
    let place = Place::directory();
    let _registration = greeter(&place).await;
    let command = |further: &str| deregister_at_a_terminal(&place, "", further);
    let asked = end(&command("")).await;
    let said = asked.stdout.join("\n");
    assert_eq!(asked.code, Some(1), "{said}");
    assert!(
        said.contains("Deregister greeter/10.0.0.7:1") && said.contains("[y/N]"),
        "{said}"
    );
    assert!(said.contains("was left as it is"), "{said}");
    assert_eq!(seen(&place).await, (Status::Serving, 1));
    let log = tempfile::NamedTempFile::new().expect("a file");
    let elsewhere = format!(">{0} 2>>{0}", log.path().display());
    let asked = end(&command(&elsewhere)).await;
    let said = asked.stdout.join("\n");
    assert_eq!(asked.code, Some(1), "{said}");
    assert!(said.contains("[y/N]"), "{said}");
    assert_eq!(seen(&place).await, (Status::Serving, 1));
    assert_eq!(end(&command("--yes")).await.code, Some(0));
    assert_eq!(seen(&place).await, (Status::Draining, 1));
}

#[tokio::test]
async fn only_who_says_yes_at_the_terminal_has_an_instance_deregistered() {
    let place = Place::directory();
    let _registration = greeter(&place).await;
    for (typed, code, status) in [("n\n", 1, Status::Serving), ("y\n", 0, Status::Draining)] {
        let asked = end(&deregister_at_a_terminal(&place, typed, "")).await;
        assert_eq!(asked.code, Some(code), "{asked:?}");
        assert!(asked.stdout.join("\n").contains("[y/N]"), "{asked:?}");
        assert_eq!(seen(&place).await, (status, 1));
    }
}

#[tokio::test]
async fn what_the_registry_has_lost_and_an_instance_remembers_is_shown_and_taken_back() {
    let cluster = testkit::etcd::Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    // As its owner writes it after a wipe.
    let record = json!({"v": 1, "weight": 4, "asked": {"status": "draining"}}).to_string();
    let value = json!({"Op": 0, "Addr": "10.0.0.7:1", "Metadata": record}).to_string();
    let put = ["put", "shop/greeter/10.0.0.7:1", &value];
    let put = cluster.etcdctl_text(&put).await;
    put.expect("it is written");

    assert_eq!(seen(&place).await, (Status::Draining, 4));
    let rows = place.json(&["intents", "greeter"]).await;
    let row = &rows["intents"][0];
    assert_eq!(
        (&row["remembered"], &row["key"]),
        (&json!(true), &Value::Null)
    );
    place.text(&["undrain", "greeter/10.0.0.7:1"]).await;
    assert_eq!(seen(&place).await, (Status::Serving, 4));
    assert_eq!(wanted(&place).await, json!([]));
}
