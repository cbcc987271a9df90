//! What an operator wants is kept apart from the instance, followed without a gap, and is nobody's instance.

use registry::{Claim, Document, Intent, Intents, Status, Store, Weight};

use crate::{
    fixture::{Fixture, Spoiled, hold, id, instance, listed, request, service},
    follower::Follower,
    intent_follower::IntentFollower,
};

fn weight(weight: u32) -> Intent {
    Intent::from(Weight::new(weight).expect("a weight"))
}

fn intents<const N: usize>(wanted: [(&str, Intent); N]) -> Intents {
    let wanted = wanted.into_iter();
    wanted.map(|(name, intent)| (id(name), intent)).collect()
}

async fn set(store: &dyn Store, service_name: &str, name: &str, intent: Intent) {
    let (service, id) = (service(service_name), id(name));
    let set = store.set_intent(&service, &id, intent).await;
    set.expect("it is written");
}

async fn delete(store: &dyn Store, service_name: &str, name: &str) {
    let (service, id) = (service(service_name), id(name));
    let deleted = store.delete_intent(&service, &id).await;
    deleted.expect("there is none in the end");
}

async fn listed_intents(store: &dyn Store, service_name: &str) -> Intents {
    let listed = store.list_intents(&service(service_name)).await;
    listed.expect("an answer")
}

pub(crate) async fn an_intent_is_read_as_it_was_written(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let read = async || listed_intents(&*reader, "shop/greeter").await;
    assert!(read().await.is_empty());
    for name in ["10.0.0.1:1", "[::1]:1", "a-b", ".lock", "host:1"] {
        for wanted in [
            Intent::from(Status::Draining),
            Intent::from(Status::NotServing),
            Intent::from(Status::Serving),
            weight(1),
            weight(1_000_000).with_status(Status::Draining),
            Intent::nothing(),
        ] {
            set(&*owner, "shop/greeter", name, wanted.clone()).await;
            assert_eq!(read().await, intents([(name, wanted)]));
        }
        for _ in 0..2 {
            delete(&*owner, "shop/greeter", name).await;
            assert!(read().await.is_empty());
        }
    }
}

pub(crate) async fn an_intent_says_where_it_was_read(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let (name, made) = ("10.0.0.1:1", weight(2));
    assert_eq!(made.origin(), None);
    set(&*owner, "shop/greeter", name, made).await;
    let mut follower = IntentFollower::start(&*reader, "shop/greeter");
    let origin = |all: &Intents| {
        let intent = all.get(&id(name)).expect("it is there");
        intent.origin().expect("it was read").clone()
    };
    let first = origin(&follower.next().await);
    assert_eq!(
        origin(&listed_intents(&*reader, "shop/greeter").await),
        first
    );
    assert!(
        first.key.contains("greeter") && first.key.contains(name),
        "{first:?}"
    );
    set(&*owner, "shop/greeter", name, weight(3)).await;
    let later = origin(&follower.next().await);
    assert_eq!(later.key, first.key);
    assert!(later.revision >= first.revision, "{later:?}, {first:?}");
}

pub(crate) async fn a_watch_of_intents_tells_what_is_wanted_and_then_each_change(
    registry: &impl Fixture,
) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let mut follower = IntentFollower::start(&*reader, "greeter");
    assert!(follower.next().await.is_empty());
    let mut wanted = Intents::default();
    for (name, intent) in [
        ("a", Some(weight(2))),
        ("b", Some(Intent::from(Status::Draining))),
        ("a", Some(weight(3))),
        ("a", None),
        ("a", Some(weight(2))),
        ("b", None),
        ("a", None),
    ] {
        match intent.clone() {
            Some(intent) => set(&*owner, "greeter", name, intent).await,
            None => delete(&*owner, "greeter", name).await,
        }
        wanted.set(id(name), intent);
        follower.until(&wanted).await;
        let mut later = IntentFollower::start(&*reader, "greeter");
        assert_eq!(later.next().await, wanted);
    }
}

pub(crate) async fn no_gap_between_intents_and_what_follows(registry: &impl Fixture) {
    const WRITES: u32 = 40;
    const WATCHES: u32 = 8;
    let (owner, reader) = (registry.open().await, registry.open().await);
    let number = |all: &Intents| u32::try_from(all.len()).expect("a few");
    let writing = async {
        for written in 1..=WRITES {
            set(&*owner, "greeter", &format!("i-{written}"), weight(written)).await;
        }
    };
    // Each watch starts somewhere within the writes, forgets nothing, and ends with all.
    let watching = futures_util::future::join_all((0..WATCHES).map(async |turn| {
        while number(&listed_intents(&*reader, "greeter").await) < turn * 4 {
            tokio::task::yield_now().await;
        }
        let mut follower = IntentFollower::start(&*reader, "greeter");
        let mut last = number(&follower.next().await);
        assert!(last >= turn * 4, "{last} was overtaken");
        while last < WRITES {
            let next = number(&follower.next().await);
            assert!(next > last, "{next} comes after {last}");
            last = next;
        }
    }));
    futures_util::future::join(writing, watching).await;
}

pub(crate) async fn intents_of_names_with_a_common_prefix_are_apart(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let names = [("foo", 1), ("foo/bar", 2), ("foobar", 3)];
    let mut followers = names.map(|(name, _)| IntentFollower::start(&*reader, name));
    for follower in &mut followers {
        assert!(follower.next().await.is_empty());
    }
    for (name, number) in names {
        set(&*owner, name, "bar", weight(number)).await;
    }
    for (follower, (_, number)) in followers.iter_mut().zip(names) {
        let own = intents([("bar", weight(number))]);
        assert_eq!(follower.next().await, own);
    }
    delete(&*owner, "foo", "bar").await;
    assert!(followers[0].next().await.is_empty());
    for (name, number) in &names[1..] {
        let left = listed_intents(&*reader, name).await;
        assert_eq!(left, intents([("bar", weight(*number))]));
    }
    assert_eq!(reader.undecodable(), 0);
}

pub(crate) async fn an_intent_is_no_service_and_no_instance(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let mut follower = Follower::start(&*reader, "greeter").await;
    let mut only_watched = IntentFollower::start(&*reader, "watched");
    assert!(only_watched.next().await.is_empty());
    for name in ["greeter", "other"] {
        set(&*owner, name, "10.0.0.1:1", weight(2)).await;
    }
    assert!(reader.services().await.expect("services").is_empty());
    assert!(listed(&*reader, "greeter").await.is_empty());
    let greeter = instance("greeter", 1);
    let held = hold(&*owner, &greeter).await;
    follower.until_exactly(&[&greeter]).await;
    let services = reader.services().await.expect("services");
    assert_eq!(services, [service("greeter")]);
    held.release().await.expect("it is ours");
    follower.until_exactly(&[]).await;
    assert_eq!(reader.undecodable(), 0);
}

pub(crate) async fn services_are_known_by_whatever_there_is_of_them(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let known = async || reader.known_services().await.expect("services");
    assert_eq!(known().await, []);
    let document = Document::new("{}").expect("a document");
    let (configured, deep) = (service("configured"), service("shop/drained"));
    set(&*owner, deep.as_str(), "10.0.0.1:1", weight(2)).await;
    let written = owner.set_document(&configured, document).await;
    written.expect("it is written");
    let held = hold(&*owner, &instance("greeter", 1)).await;
    assert_eq!(
        known().await,
        [configured.clone(), service("greeter"), deep.clone()]
    );
    held.release().await.expect("it is ours");
    delete(&*owner, deep.as_str(), "10.0.0.1:1").await;
    assert_eq!(known().await, [configured]);
}

pub(crate) async fn an_intent_stays_whatever_the_owner_does(registry: &impl Fixture) {
    let (owner, operator, reader) = (
        registry.open().await,
        registry.open().await,
        registry.open().await,
    );
    let greeter = instance("greeter", 1);
    let drained = intents([("10.0.0.1:1", Intent::from(Status::Draining))]);
    let stays = async || assert_eq!(listed_intents(&*reader, "greeter").await, drained);
    let mut first = hold(&*owner, &greeter).await;
    set(
        &*operator,
        "greeter",
        "10.0.0.1:1",
        Intent::from(Status::Draining),
    )
    .await;
    let updated = first.update(greeter.clone().with_status(Status::Serving));
    updated.await.expect("it is ours");
    stays().await;
    let later = instance("greeter", 1);
    let mut second = hold(&*owner, &later).await;
    first.lost().await;
    drop(first);
    stays().await;
    second.update(later.clone()).await.expect("it is ours");
    second.release().await.expect("it is ours");
    stays().await;
    let again = owner.hold(request(&later, Claim::First)).await;
    let again = again.expect("nobody has it");
    stays().await;
    drop(again);
    stays().await;
}

pub(crate) async fn what_is_no_intent_is_skipped_and_counted_once_and_harms_no_other(
    registry: &impl Spoiled,
) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    for name in ["a", "b"] {
        set(&*owner, "greeter", name, weight(2)).await;
    }
    let mut follower = IntentFollower::start(&*reader, "greeter");
    assert_eq!(follower.next().await.len(), 2);
    let left = intents([("a", weight(2))]);
    registry.spoil_intent("greeter", "b", "drain").await;
    follower.until(&left).await;
    registry.spoil_intent("greeter", "_odd", "{}").await;
    registry
        .spoil_intent("greeter", "c", &"x".repeat(100_000))
        .await;
    for _ in 0..3 {
        assert_eq!(listed_intents(&*reader, "greeter").await, left);
        let mut later = IntentFollower::start(&*reader, "greeter");
        assert_eq!(later.next().await, left);
    }
    assert_eq!(reader.undecodable(), 3);
    set(&*owner, "greeter", "b", weight(3)).await;
    let both = intents([("a", weight(2)), ("b", weight(3))]);
    follower.until(&both).await;
}
