//! What stands in etcd is what etcd's own Go packages read and write.

use futures_util::StreamExt as _;
use registry::{Store as _, Update, Weight, backend::etcd::EtcdStore};

use crate::support::{etcdctl, hold, instance, listed, service, shared, soon, store};

#[tokio::test]
async fn an_instance_stands_in_etcd_as_go_writes_it() {
    let cluster = shared().await;
    let mut plain = instance("format/greeter", 50051);
    plain.incarnation = None;
    let weighted = instance("format/greeter", 50052).with_weight(Weight::new(3).expect("a weight"));
    let incarnation = weighted.incarnation.expect("it has one");
    let store = store(&cluster);
    let _plain = hold(&store, &plain, 60).await;
    let _weighted = hold(&store, &weighted, 60).await;
    assert_eq!(
        etcdctl(&cluster, &["get", "--prefix", "format/greeter/"]).await,
        format!(
            r#"format/greeter/10.0.0.7:50051
{{"Op":0,"Addr":"10.0.0.7:50051","Metadata":null}}
format/greeter/10.0.0.7:50052
{{"Op":0,"Addr":"10.0.0.7:50052","Metadata":"{{\"v\":1,\"weight\":3,\"incarnation\":\"{incarnation}\"}}"}}
"#
        )
    );
}

#[tokio::test]
async fn an_instance_says_at_which_key_and_revision_it_stands() {
    let cluster = shared().await;
    let key = "format/origin/10.0.0.7:50051";
    let store = store(&cluster);
    let _hold = hold(&store, &instance("format/origin", 50051), 60).await;
    let snapshot = store.list(&service("format/origin")).await.expect("a list");
    let read = snapshot.instances().next().expect("it is there");
    let origin = read.origin().expect("it was read");
    assert_eq!(&*origin.key, key);
    let fields = etcdctl(&cluster, &["get", key, "-w", "fields"]).await;
    let revision = format!("\"ModRevision\" : {}\n", origin.revision);
    assert!(fields.contains(&revision), "{revision} is not in {fields}");
}

#[tokio::test]
async fn instances_of_other_writers_are_listed_and_what_is_none_is_counted_once() {
    let cluster = shared().await;
    let put = async |key: &str, value: &str| {
        etcdctl(&cluster, &["put", "--", key, value]).await;
    };
    put(
        "format/foreign/10.0.0.1:1",
        r#"{"Op":0,"Addr":"10.0.0.1:1","Metadata":{"a":1}}"#,
    )
    .await;
    put("format/foreign/0001", r#"{"Addr":"10.0.0.2:1"}"#).await;
    put("format/foreign/bad", "10.0.0.3:1").await;
    put("format/foreign/b a d", r#"{"Addr":"10.0.0.3:1"}"#).await;
    put("format/foreign/deeper/x", r#"{"Addr":"10.0.0.4:1"}"#).await;
    let store = store(&cluster);
    assert_eq!(listed(&store, "format/foreign").await, 2);
    assert_eq!(listed(&store, "format/foreign").await, 2);
    assert_eq!(store.undecodable(), 2, "each once");
    put("format/foreign/bad", "still bad").await;
    assert_eq!(listed(&store, "format/foreign").await, 2);
    assert_eq!(store.undecodable(), 3, "it is another value");
}

#[tokio::test]
async fn a_value_that_becomes_unreadable_removes_its_instance() {
    let cluster = shared().await;
    let store = store(&cluster);
    let key = "format/spoilt/a";
    etcdctl(&cluster, &["put", "--", key, r#"{"Addr":"10.0.0.1:1"}"#]).await;
    let mut watch = store.watch(&service("format/spoilt"));
    let first = soon("a reset", watch.next())
        .await
        .expect("an item")
        .expect("no error");
    assert!(matches!(&first.updates[..], [Update::Reset(all)] if all.len() == 1));
    etcdctl(&cluster, &["put", "--", key, "spoilt"]).await;
    let next = soon("a removal", watch.next())
        .await
        .expect("an item")
        .expect("no error");
    assert!(
        matches!(&next.updates[..], [Update::Remove(id)] if id.as_str() == "a"),
        "{next:?}"
    );
    assert_eq!(store.undecodable(), 1);
}

#[tokio::test]
async fn namespaces_are_apart_and_own_keys_are_no_service() {
    let cluster = shared().await;
    let namespaced = EtcdStore::new(cluster.url("format-ns/eu").parse().expect("a URL"));
    let _held = hold(&namespaced, &instance("greeter", 1), 60).await;
    for key in [
        "_intent/greeter/a",
        "format-ns/eu/_intent/greeter/a",
        "format-ns/eu/x",
    ] {
        etcdctl(&cluster, &["put", key, "{}"]).await;
    }
    assert_eq!(
        namespaced.services().await.expect("services"),
        [service("greeter")]
    );
    let all = store(&cluster).services().await.expect("services");
    assert!(all.contains(&service("format-ns/eu/greeter")), "{all:?}");
    assert!(
        all.iter().all(|name| !name.as_str().contains("_intent")),
        "{all:?}"
    );
    let key = etcdctl(
        &cluster,
        &["get", "--keys-only", "--prefix", "format-ns/eu/greeter/"],
    )
    .await;
    assert_eq!(key.trim(), "format-ns/eu/greeter/10.0.0.7:1");
}
