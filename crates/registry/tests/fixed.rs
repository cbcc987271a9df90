//! A list given beforehand is listed and watched, and nothing can be registered in it.

use std::{fs, time::Duration};

use futures_util::{FutureExt, StreamExt};
use registry::{
    Address, Claim, Document, HoldRequest, Instance, InstanceId, ServiceName, Status, Store,
    StoreError, Update, Weight, backend::fixed::FixedStore,
};
use tempfile::TempDir;

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a service name")
}

fn address(address: &str) -> Address {
    Address::new(address).expect("an address")
}

fn from_file(text: &str) -> (TempDir, Result<FixedStore, String>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("list.json");
    fs::write(&path, text).expect("a file");
    let store = FixedStore::from_file(path).map_err(|error| registry::one_line(&error));
    (directory, store)
}

#[tokio::test]
async fn addresses_given_are_listed_and_watched_and_nothing_follows() {
    let greeter = service("greeter");
    let addresses = ["10.0.0.2:1", "10.0.0.1:1", "10.0.0.2:1"].map(address);
    let store = FixedStore::new(greeter.clone(), addresses);
    let snapshot = store.list(&greeter).await.expect("a list");
    let ids: Vec<_> = snapshot.instances().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, ["10.0.0.1:1", "10.0.0.2:1"]);

    let mut watch = store.watch(&greeter);
    let first = watch.next().await.expect("an item").expect("a change");
    assert!(matches!(&first.updates[..], [Update::Reset(all)] if all.len() == 2));
    assert_eq!(first.revision, snapshot.revision());
    assert!(
        watch.next().now_or_never().is_none(),
        "it neither goes on nor ends"
    );
}

#[tokio::test]
async fn a_service_that_is_not_in_the_list_has_no_instances() {
    let store = FixedStore::new(service("greeter"), [address("10.0.0.1:1")]);
    let other = service("other");
    assert!(store.list(&other).await.expect("a list").is_empty());
    let first = store.watch(&other).next().await.expect("an item");
    assert_eq!(
        first.expect("a change").updates,
        [Update::Reset(Vec::new())]
    );
}

#[tokio::test]
async fn a_file_has_addresses_and_records() {
    let (_directory, store) = from_file(
        r#"{"greeter": ["127.0.0.1:50051", {"addresses": ["10.0.0.1:1", "[::1]:2"], "weight": 3,
            "id": "a", "status": "draining", "labels": {"tier": "gold"}}], "shop/basket": ["b:1"], "empty": []}"#,
    );
    let store = store.expect("a store");
    assert!(store.url().starts_with("fixed:///"), "{}", store.url());
    let services = store.services().await.expect("services");
    assert_eq!(services, ["greeter", "shop/basket"].map(service));
    let greeter = service("greeter");
    let snapshot = store.list(&greeter).await.expect("a list");
    let full = Instance::new(greeter.clone(), address("10.0.0.1:1"))
        .with_id(InstanceId::new("a").expect("an id"))
        .with_more_addresses([address("[::1]:2")])
        .with_weight(Weight::new(3).expect("a weight"))
        .with_label("tier", "gold")
        .with_status(Status::Draining);
    let plain = Instance::new(greeter, address("127.0.0.1:50051"));
    let listed: Vec<_> = snapshot.instances().map(|i| (**i).clone()).collect();
    assert_eq!(listed, [plain, full]);
}

#[test]
fn a_bad_file_is_refused_by_name_and_place() {
    for (text, wanted) in [
        ("", "list.json is no list of instances"),
        ("[]", "list.json is no list of instances"),
        (r#"{"greeter": [7]}"#, "an address or an object"),
        (r#"{"a b": []}"#, "\"a b\""),
        (r#"{"greeter": ["a:1", "b"]}"#, "greeter[1]: address \"b\""),
        (
            r#"{"greeter": [{"weight": 3}]}"#,
            "greeter[0]: it has no address",
        ),
        (
            r#"{"greeter": [{"addresses": ["a:1"], "weight": 0}]}"#,
            "greeter[0]: weight \"0\"",
        ),
        (r#"{"greeter": [{"addresses": "a:1"}]}"#, "greeter[0]"),
        (
            r#"{"greeter": ["a:1", "a:1"]}"#,
            "greeter[1]: the id a:1 is there twice",
        ),
    ] {
        let (_directory, store) = from_file(text);
        let message = store.expect_err(text);
        assert!(
            message.contains(wanted) && message.contains("list.json"),
            "{text}: {message}"
        );
    }
    let missing = FixedStore::from_file("/nowhere/list.json").expect_err("no file");
    assert!(
        missing.to_string().contains("/nowhere/list.json"),
        "{missing}"
    );
}

#[tokio::test]
async fn nothing_can_be_registered() {
    let greeter = service("greeter");
    let store = FixedStore::new(greeter.clone(), []);
    let request = HoldRequest {
        instance: Instance::new(greeter, address("10.0.0.1:1")),
        ttl: Duration::from_secs(10),
        claim: Claim::First,
    };
    let refused = store.hold(request).await.err().expect("it is read-only");
    assert!(
        matches!(refused, StoreError::ReadOnly { .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn there_are_no_documents_and_none_can_be_written() {
    let greeter = service("greeter");
    let store = FixedStore::new(greeter.clone(), []);
    let read = store.read_document(&greeter).await.expect("an answer");
    assert_eq!(read, None);
    let mut watch = store.watch_document(&greeter);
    let first = watch.next().await.expect("an item").expect("no error");
    assert_eq!(first, Ok(None));
    assert!(
        watch.next().now_or_never().is_none(),
        "it neither goes on nor ends"
    );
    let document = Document::new("{}").expect("a document");
    for refused in [
        store.set_document(&greeter, document).await,
        store.delete_document(&greeter).await,
    ] {
        let error = refused.expect_err("there is no place for it");
        assert!(
            matches!(&error, StoreError::NoDocuments { registry } if registry == store.url()),
            "{error:?}"
        );
    }
}
