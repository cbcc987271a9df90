//! A watch tells everything, in order, and nothing else.

use registry::{Instance, Update};

use crate::{
    fixture::{Fixture, hold, instance, listed, service},
    follower::Follower,
};

pub(crate) async fn a_watch_of_an_unknown_service_sees_its_first_instance(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let mut follower = Follower::start(&*reader, "greeter").await;
    assert!(follower.snapshot().is_empty());
    assert!(listed(&*reader, "greeter").await.is_empty());
    let greeter = instance("greeter", 1);
    let _hold = hold(&*owner, &greeter).await;
    follower.until_exactly(&[&greeter]).await;
}

pub(crate) async fn no_gap_between_list_and_watch(registry: &impl Fixture) {
    const INSTANCES: u16 = 40;
    const WATCHES: usize = 8;
    let (owner, reader) = (registry.open().await, registry.open().await);
    let all: Vec<Instance> = (1..=INSTANCES).map(|p| instance("greeter", p)).collect();
    let registering = async {
        let mut holds = Vec::new();
        for instance in &all {
            holds.push(hold(&*owner, instance).await);
        }
        holds
    };
    // Each watch starts somewhere within the registrations and must end with all of them.
    let watching = futures_util::future::join_all((0..WATCHES).map(async |turn| {
        while listed(&*reader, "greeter").await.len() < turn * 4 {
            tokio::task::yield_now().await;
        }
        let mut follower = Follower::start(&*reader, "greeter").await;
        let wanted: Vec<_> = all.iter().collect();
        follower.until_exactly(&wanted).await;
    }));
    let (_holds, _) = futures_util::future::join(registering, watching).await;
}

pub(crate) async fn names_with_a_common_prefix_are_apart(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let names = ["foo", "foo/bar", "foobar"];
    let mut holds = Vec::new();
    let mut followers = Vec::new();
    for name in names {
        followers.push(Follower::start(&*reader, name).await);
    }
    let instances: Vec<Instance> = (1..).zip(names).map(|(p, n)| instance(n, p)).collect();
    for instance in &instances {
        holds.push(hold(&*owner, instance).await);
    }
    for (follower, instance) in followers.iter_mut().zip(&instances) {
        follower.until_exactly(&[instance]).await;
        let updates = follower.take_updates();
        let own = |update: &Update| match update {
            Update::Reset(all) => all.is_empty(),
            Update::Upsert(seen) => seen.service == instance.service,
            Update::Remove(_) => false,
        };
        assert!(updates.iter().all(own), "{updates:?}");
        let id = instance.id.as_str();
        assert_eq!(listed(&*reader, instance.service.as_str()).await, [id]);
    }
}

pub(crate) async fn services_are_exactly_those_with_instances(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    assert!(reader.services().await.expect("services").is_empty());
    let _only_watched = Follower::start(&*reader, "watched").await;
    let mut holds = Vec::new();
    for (name, port) in [("b", 1), ("a/b", 2), ("a", 3), ("a", 4)] {
        holds.push(hold(&*owner, &instance(name, port)).await);
    }
    let services = reader.services().await.expect("services");
    assert_eq!(services, ["a", "a/b", "b"].map(service));
    for hold in holds.drain(2..) {
        hold.release().await.expect("it is ours");
    }
    let services = reader.services().await.expect("services");
    assert_eq!(services, ["a/b", "b"].map(service));
}

pub(crate) async fn revisions_never_go_back(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let mut follower = Follower::start(&*reader, "greeter").await;
    let mut last = follower.snapshot().revision();
    for port in 1..10 {
        let greeter = instance("greeter", port);
        let held = hold(&*owner, &greeter).await;
        follower.until_exactly(&[&greeter]).await;
        let there = follower.snapshot().revision();
        assert!(there > last, "{there} comes after {last}");
        held.release().await.expect("it is ours");
        follower.until_exactly(&[]).await;
        last = follower.snapshot().revision();
        assert!(last > there, "{last} comes after {there}");
    }
}
