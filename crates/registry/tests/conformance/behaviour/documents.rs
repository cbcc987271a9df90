//! A service's document is kept as it is, followed without a gap, and is nobody's instance.

use registry::Document;

use crate::{
    document_follower::DocumentFollower,
    fixture::{Fixture, Spoiled, document, hold, instance, listed, service},
    follower::Follower,
};

pub(crate) async fn a_document_is_read_as_it_was_written(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let greeter = service("shop/greeter");
    let read = async || reader.read_document(&greeter).await.expect("an answer");
    assert_eq!(read().await, None);
    let largest = "ü".repeat(Document::MAX_BYTES / 2);
    for text in ["{\"näme\": [1]}\r\n", "no JSON\0", "", &largest] {
        let written = owner.set_document(&greeter, document(text)).await;
        written.expect("it is written");
        assert_eq!(read().await, Some(document(text)));
    }
    for _ in 0..2 {
        let deleted = owner.delete_document(&greeter).await;
        deleted.expect("there is none in the end");
        assert_eq!(read().await, None);
    }
}

pub(crate) async fn a_document_says_where_it_was_read(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let greeter = service("shop/greeter");
    let made = document("a");
    assert_eq!(made.origin(), None);
    let written = owner.set_document(&greeter, made).await;
    written.expect("it is written");
    let mut follower = DocumentFollower::start(&*reader, "shop/greeter");
    let first = follower.next().await.expect("it is there");
    let read = reader.read_document(&greeter).await.expect("an answer");
    let read = read.expect("it is there");
    let origin = first.origin().expect("it was read");
    assert_eq!(read.origin(), Some(origin));
    assert!(origin.key.contains("greeter"), "{origin:?}");
    assert!(origin.revision.0 > 0, "{origin:?}");
    let written = owner.set_document(&greeter, document("b")).await;
    written.expect("it is written");
    let next = follower.next().await.expect("it is there");
    let later = next.origin().expect("it was read");
    assert_eq!(later.key, origin.key);
    assert!(later.revision >= origin.revision, "{later:?}, {origin:?}");
}

pub(crate) async fn a_watch_of_a_document_tells_what_is_there_and_then_each_change(
    registry: &impl Fixture,
) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let greeter = service("greeter");
    let mut follower = DocumentFollower::start(&*reader, "greeter");
    assert_eq!(follower.next().await, None);
    for text in ["a", "", "b"] {
        let written = owner.set_document(&greeter, document(text)).await;
        written.expect("it is written");
        assert_eq!(follower.next().await, Some(document(text)));
        let mut later = DocumentFollower::start(&*reader, "greeter");
        assert_eq!(later.next().await, Some(document(text)));
    }
    for text in ["c", "d"] {
        let deleted = owner.delete_document(&greeter).await;
        deleted.expect("it is deleted");
        assert_eq!(follower.next().await, None);
        let written = owner.set_document(&greeter, document(text)).await;
        written.expect("it is written");
        assert_eq!(follower.next().await, Some(document(text)));
    }
}

pub(crate) async fn no_gap_between_a_document_and_what_follows(registry: &impl Fixture) {
    const WRITES: usize = 40;
    const WATCHES: usize = 8;
    let (owner, reader) = (registry.open().await, registry.open().await);
    let greeter = service("greeter");
    let number = |document: Option<Document>| {
        document.map_or(0, |text| text.as_str().parse::<usize>().expect("a number"))
    };
    let writing = async {
        for written in 1..=WRITES {
            let text = document(&written.to_string());
            let written = owner.set_document(&greeter, text).await;
            written.expect("it is written");
        }
    };
    // Each watch starts somewhere within the writes, goes forward only, and ends with the last.
    let watching = futures_util::future::join_all((0..WATCHES).map(async |turn| {
        while number(reader.read_document(&greeter).await.expect("an answer")) < turn * 4 {
            tokio::task::yield_now().await;
        }
        let mut follower = DocumentFollower::start(&*reader, "greeter");
        let mut last = number(follower.next().await);
        assert!(last >= turn * 4, "{last} was overtaken");
        while last < WRITES {
            let next = number(follower.next().await);
            assert!(next > last, "{next} comes after {last}");
            last = next;
        }
    }));
    futures_util::future::join(writing, watching).await;
}

pub(crate) async fn documents_of_names_with_a_common_prefix_are_apart(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let names = ["foo", "foo/bar", "foobar"];
    let mut followers = names.map(|name| DocumentFollower::start(&*reader, name));
    for follower in &mut followers {
        assert_eq!(follower.next().await, None);
    }
    for name in names {
        let written = owner.set_document(&service(name), document(name)).await;
        written.expect("it is written");
    }
    for (follower, name) in followers.iter_mut().zip(names) {
        assert_eq!(follower.next().await, Some(document(name)));
    }
    let deleted = owner.delete_document(&service("foo")).await;
    deleted.expect("it is deleted");
    assert_eq!(followers[0].next().await, None);
    for name in &names[1..] {
        let left = reader.read_document(&service(name)).await;
        assert_eq!(left.expect("an answer"), Some(document(name)));
    }
}

pub(crate) async fn a_document_is_no_service_and_no_instance(registry: &impl Fixture) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let mut follower = Follower::start(&*reader, "greeter").await;
    let mut only_watched = DocumentFollower::start(&*reader, "watched");
    assert_eq!(only_watched.next().await, None);
    for name in ["greeter", "other"] {
        let written = owner.set_document(&service(name), document("{}")).await;
        written.expect("it is written");
    }
    assert!(reader.services().await.expect("services").is_empty());
    assert!(listed(&*reader, "greeter").await.is_empty());
    let greeter = instance("greeter", 1);
    let held = hold(&*owner, &greeter).await;
    follower.until_exactly(&[&greeter]).await;
    assert_eq!(
        reader.services().await.expect("services"),
        [service("greeter")]
    );
    held.release().await.expect("it is ours");
    follower.until_exactly(&[]).await;
    assert_eq!(reader.undecodable(), 0);
    let left = reader.read_document(&service("greeter")).await;
    assert_eq!(left.expect("an answer"), Some(document("{}")));
}

pub(crate) async fn what_is_no_document_is_told_and_what_follows_too(registry: &impl Spoiled) {
    let (owner, reader) = (registry.open().await, registry.open().await);
    let greeter = service("greeter");
    let written = owner.set_document(&greeter, document("a")).await;
    written.expect("it is written");
    let mut follower = DocumentFollower::start(&*reader, "greeter");
    assert_eq!(follower.next().await, Some(document("a")));
    let too_large = "x".repeat(Document::MAX_BYTES + 1);
    registry.spoil_document("greeter", &too_large).await;
    let refused = follower.next_found().await.expect_err("it is too large");
    assert!(refused.to_string().contains("65537 bytes"), "{refused}");
    let read = reader.read_document(&greeter).await;
    let error = registry::one_line(&read.expect_err("it is too large"));
    assert!(error.contains("65537 bytes"), "{error}");
    let mut later = DocumentFollower::start(&*reader, "greeter");
    assert_eq!(later.next_found().await, Err(refused));
    let written = owner.set_document(&greeter, document("b")).await;
    written.expect("it is written");
    for follower in [&mut follower, &mut later] {
        assert_eq!(follower.next().await, Some(document("b")));
    }
}
