//! `services` and `list`.

use std::process::Command;

use registry::{Status, Weight};
use serde_json::json;
use testkit::process::Process;

use crate::place::{Ended, Place, end, instance, service};

#[tokio::test]
async fn services_are_shown_with_what_their_instances_do() {
    for place in Place::each().await {
        assert_eq!(
            place.text(&["services"]).await,
            format!("no service has an instance in {}", place.url)
        );
        let _first = place.register(instance("greeter", "10.0.0.7:1")).await;
        let draining = instance("greeter", "10.0.0.8:1").with_status(Status::Draining);
        let _second = place.register(draining).await;
        let _third = place.register(instance("shop/basket", "10.0.0.9:1")).await;
        let shown = place.json(&["services"]).await;
        let expected = json!({
            "registry": place.url,
            "services": [
                {"service": "greeter", "instances": 2, "serving": 1, "draining": 1, "not_serving": 0},
                {"service": "shop/basket", "instances": 1, "serving": 1, "draining": 0, "not_serving": 0},
            ],
        });
        assert_eq!(shown, expected);
        let table = place.text(&["services"]).await;
        assert!(
            table.contains("shop/basket") && !table.contains('\u{1b}'),
            "{table}"
        );
    }
}

#[tokio::test]
async fn a_list_has_all_that_the_registry_says_of_an_instance_and_what_is_wanted_of_it() {
    for place in Place::each().await {
        let said = instance("greeter", "10.0.0.7:1")
            .with_version("v2")
            .with_label("tier", "gold");
        let id = said.id.clone();
        let _registration = place.register(said).await;
        let wanted = Weight::new(3).expect("a weight").into();
        let greeter = service("greeter");
        let set = place.registry.set_intent(&greeter, &id, wanted);
        set.await.expect("it is kept");

        let listed = place.registry.list(&greeter).await;
        let listed = listed.expect("it is there");
        let one = listed.get(&id).expect("it is there");
        let origin = one.origin().expect("it was read");
        let shown = place.json(&["list", "greeter"]).await;
        assert_eq!(shown["service"], "greeter");
        let incarnation = one.incarnation.expect("it has one").to_string();
        let expected = json!([{
            "service": "greeter",
            "id": "10.0.0.7:1",
            "addresses": ["10.0.0.7:1"],
            "status": "serving",
            "weight": 3,
            "zone": null,
            "version": "v2",
            "labels": {"tier": "gold"},
            "own_status": "serving",
            "own_weight": 1,
            "intent": {"status": null, "weight": 3},
            "incarnation": incarnation,
            "key": &*origin.key,
            "revision": origin.revision.0,
        }]);
        assert_eq!(shown["instances"], expected);
        let table = place.text(&["list", "greeter"]).await;
        for said in [
            "10.0.0.7:1",
            "tier=gold",
            "weight 3",
            "itself: serving, weight 1",
        ] {
            assert!(table.contains(said), "{table}");
        }
        let nobody = place.text(&["list", "nobody"]).await;
        assert_eq!(nobody, format!("nobody has no instance in {}", place.url));
        assert_eq!(
            place.json(&["list", "nobody"]).await["instances"],
            json!([])
        );
    }
}

/// How many columns the terminal of a test has.
const COLUMNS: usize = 60;

/// `list greeter` on a terminal of that many columns; what follows is the shell's.
async fn listed_on_a_terminal(place: &Place, further: &str) -> Ended {
    let line = format!(
        "stty cols {COLUMNS}; '{}' --registry '{}' list greeter {further}",
        env!("CARGO_BIN_EXE_discovery"),
        place.url
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.env_remove("NO_COLOR").env("TERM", "xterm");
    end(&Process::spawn("discovery on a terminal", command).expect("script is there")).await
}

/// What of it is seen.
fn without_colour(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default();
    let others = parts.map(|part| part.split_once('m').map_or(part, |(_, seen)| seen));
    let seen: String = [first].into_iter().chain(others).collect();
    seen.trim_end().to_owned()
}

#[tokio::test]
async fn a_table_is_as_wide_as_its_terminal_at_most_and_has_colour_there_alone() {
    let place = Place::directory();
    let long = "of which a line of sixty columns cannot tell all that there is";
    let said = instance("greeter", "10.0.0.7:1").with_label("note", long);
    let _registration = place.register(said).await;
    let on_terminal = listed_on_a_terminal(&place, "").await;
    assert_eq!(on_terminal.code, Some(0), "{on_terminal:?}");
    let lines = on_terminal.stdout;
    let seen: Vec<_> = lines.iter().map(|line| without_colour(line)).collect();
    assert!(
        lines.iter().any(|line| line.contains('\u{1b}')),
        "{lines:?}"
    );
    assert!(seen.len() > 4, "{seen:#?}");
    for line in &seen {
        assert!(line.chars().count() <= COLUMNS, "{seen:#?}");
    }
    // The pipe begins on that terminal, and is none.
    let piped = listed_on_a_terminal(&place, "| cat").await;
    let lines = piped.stdout;
    assert!(lines.iter().any(|line| line.contains(long)), "{lines:?}");
    assert!(
        !lines.iter().any(|line| line.contains('\u{1b}')),
        "{lines:?}"
    );
}
