//! What is no instance harms nobody, and is not passed over in silence.

use crate::{
    fixture::{Spoiled, hold, instance, listed},
    follower::Follower,
};

pub(crate) async fn bad_values_are_skipped_and_each_is_counted_once(registry: &impl Spoiled) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let greeter = instance("greeter", 1);
    let _hold = hold(&*owner, &greeter).await;
    assert_eq!(reader.undecodable(), 0);
    for id in ["a", "b"] {
        registry.spoil("greeter", id).await;
    }
    for _ in 0..3 {
        assert_eq!(listed(&*reader, "greeter").await, ["10.0.0.1:1"]);
    }
    assert_eq!(reader.undecodable(), 2);
    let follower = Follower::start(&*reader, "greeter").await;
    assert_eq!(follower.snapshot().len(), 1);
    assert_eq!(reader.undecodable(), 2, "a watch has met nothing new");
}
