//! `watch`.

use registry::Weight;
use serde_json::Value;
use testkit::{
    Signal,
    etcd::Cluster,
    process::{Lines, Process},
};

use crate::place::{BOUND, Place, end, instance};

/// What a `watch --output json` tells, one after another.
struct Events {
    lines: Lines,
    process: Process,
}

impl Events {
    fn of(place: &Place, arguments: &[&str]) -> Self {
        let process = place.start(&[&["watch", "--output", "json"], arguments].concat());
        let lines = process.lines();
        Self { lines, process }
    }

    /// The next event that is about an instance, as `added greeter/10.0.0.7:1`, and the whole of it.
    async fn next(&mut self) -> (String, Value) {
        loop {
            let next = tokio::time::timeout(BOUND, self.lines.next()).await;
            let line = next.expect("it tells").expect("it goes on");
            let event: Value = serde_json::from_str(&line.text)
                .unwrap_or_else(|error| panic!("{error}: {}", line.text));
            let id = event["instance"]["id"].as_str();
            if let (Some(kind), Some(service), Some(id)) =
                (event["event"].as_str(), event["service"].as_str(), id)
            {
                return (format!("{kind} {service}/{id}"), event);
            }
        }
    }

    async fn ends_by(self, signal: Signal) -> Option<i32> {
        self.process.signal(signal).expect("it runs");
        end(&self.process).await.code
    }
}

#[tokio::test]
async fn what_happens_to_a_service_is_told_a_line_an_event_until_ctrl_c() {
    for place in Place::each().await {
        let first = place.register(instance("greeter", "10.0.0.7:1")).await;
        let mut events = Events::of(&place, &["greeter"]);
        assert_eq!(events.next().await.0, "listed greeter/10.0.0.7:1");
        let second = place.register(instance("greeter", "10.0.0.8:1")).await;
        let (told, event) = events.next().await;
        assert_eq!(told, "added greeter/10.0.0.8:1");
        assert!(event["revision"].as_u64() > Some(0), "{event}");
        let heavy = Weight::new(5).expect("a weight");
        second.update(|one| one.with_weight(heavy)).await;
        let (told, event) = events.next().await;
        assert_eq!(told, "changed greeter/10.0.0.8:1");
        let change = serde_json::json!({"field": "weight", "from": "1", "to": "5"});
        let changes = event["changes"].as_array().expect("a list");
        assert!(changes.contains(&change), "{event}");
        first.deregister().await.expect("it leaves");
        assert_eq!(events.next().await.0, "removed greeter/10.0.0.7:1");
        assert_eq!(events.ends_by(Signal::SIGINT).await, Some(0));
    }
}

#[tokio::test]
async fn what_an_operator_changes_is_told_with_the_revision_at_which_it_was_written() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let _registration = place.register(instance("greeter", "10.0.0.7:1")).await;
    let mut events = Events::of(&place, &["greeter"]);
    assert_eq!(events.next().await.0, "listed greeter/10.0.0.7:1");
    let mut before = 0;
    for command in [
        &["drain", "10.0.0.7:1"][..],
        &["weight", "10.0.0.7:1", "3"],
        &["undrain", "10.0.0.7:1"],
        &["weight", "10.0.0.7:1", "own"],
    ] {
        place.text(command).await;
        let (told, event) = events.next().await;
        assert_eq!(told, "changed greeter/10.0.0.7:1");
        // Nobody else writes anything.
        let answer = cluster.etcdctl(&["get", "nothing"]).await;
        let newest = answer.expect("an answer")["header"]["revision"].as_u64();
        assert_eq!(event["revision"].as_u64(), newest, "{command:?}: {event}");
        assert!(newest > Some(before), "{command:?} writes");
        before = newest.expect("a number");
    }
}

#[tokio::test]
async fn without_a_name_services_are_followed_that_come_later() {
    for place in Place::each().await {
        let _first = place.register(instance("greeter", "10.0.0.7:1")).await;
        let mut events = Events::of(&place, &[]);
        assert_eq!(events.next().await.0, "listed greeter/10.0.0.7:1");
        let _later = place.register(instance("shop/basket", "10.0.0.9:1")).await;
        assert_eq!(events.next().await.0, "listed shop/basket/10.0.0.9:1");
        assert_eq!(events.ends_by(Signal::SIGTERM).await, Some(0));
    }
}

#[tokio::test]
async fn a_person_is_told_that_there_is_nobody_yet() {
    let place = Place::directory();
    let process = place.start(&["watch", "greeter"]);
    let line = process.wait_for_line("empty", BOUND).await;
    let line = line.expect("it says so");
    assert!(line.contains("greeter  nobody has registered"), "{line}");
}
