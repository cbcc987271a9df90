//! A hold puts an instance there, changes it and takes it away.

use futures_util::FutureExt;
use registry::{InstanceId, Update, Weight};

use crate::{
    fixture::{Fixture, hold, id, instance, listed, soon},
    follower::Follower,
};

pub(crate) async fn a_held_instance_is_listed_and_watched(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let greeter = instance("greeter", 1);
    let _hold = hold(&*owner, &greeter).await;
    assert_eq!(listed(&*owner, "greeter").await, ["10.0.0.1:1"]);
    assert_eq!(listed(&*reader, "greeter").await, ["10.0.0.1:1"]);
    let follower = Follower::start(&*reader, "greeter").await;
    let seen = follower.snapshot().get(&greeter.id).expect("it is there");
    assert_eq!(**seen, greeter);
}

pub(crate) async fn ids_of_every_form_survive(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let mut ids = ["-", "..a", "[::1]:80", "a-b", "a.json", "host-1.example:1"].map(id);
    ids.sort();
    let mut holds = Vec::new();
    for (port, id) in (1..).zip(&ids) {
        let instance = instance("greeter", port).with_id(id.clone());
        holds.push(hold(&*owner, &instance).await);
    }
    let expected = ids.each_ref().map(InstanceId::as_str);
    assert_eq!(listed(&*reader, "greeter").await, expected);
    for hold in holds {
        hold.release().await.expect("it is ours");
    }
    assert!(listed(&*reader, "greeter").await.is_empty());
}

pub(crate) async fn an_update_is_one_upsert_and_no_absence(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let mut greeter = instance("greeter", 1);
    let mut hold = hold(&*owner, &greeter).await;
    let mut follower = Follower::start(&*reader, "greeter").await;
    follower.until_exactly(&[&greeter]).await;
    follower.take_updates();
    for weight in 2..20 {
        greeter = greeter.with_weight(Weight::new(weight).expect("a weight"));
        hold.update(greeter.clone()).await.expect("it is ours");
        follower.until_exactly(&[&greeter]).await;
        let [Update::Upsert(seen)] = &follower.take_updates()[..] else {
            panic!("an update to weight {weight} is one upsert");
        };
        assert_eq!(**seen, greeter);
    }
    assert!(hold.lost().now_or_never().is_none(), "it is still held");
}

pub(crate) async fn release_removes_at_once(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let (first, second) = (instance("greeter", 1), instance("greeter", 2));
    let first_hold = hold(&*owner, &first).await;
    let _second_hold = hold(&*owner, &second).await;
    let mut follower = Follower::start(&*reader, "greeter").await;
    follower.until_exactly(&[&first, &second]).await;
    first_hold.release().await.expect("it is ours");
    assert_eq!(listed(&*reader, "greeter").await, ["10.0.0.1:2"]);
    follower.until_exactly(&[&second]).await;
}

pub(crate) async fn dropping_a_hold_removes_the_instance(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let greeter = instance("greeter", 1);
    let hold = hold(&*owner, &greeter).await;
    let mut follower = Follower::start(&*reader, "greeter").await;
    follower.until_exactly(&[&greeter]).await;
    drop(hold);
    follower.until_exactly(&[]).await;
    assert!(listed(&*reader, "greeter").await.is_empty());
}

pub(crate) async fn lost_can_be_cancelled_and_asked_again(registry: &impl Fixture) {
    let (owner, rival) = (registry.open().await, registry.open().await);
    let mut held = hold(&*owner, &instance("greeter", 1)).await;
    for _ in 0..3 {
        assert!(held.lost().now_or_never().is_none(), "it is still held");
    }
    let _later = hold(&*rival, &instance("greeter", 1)).await;
    let loss = soon("the loss", held.lost()).await;
    assert_eq!(soon("the same loss", held.lost()).await, loss);
}
