//! A document in etcd: its key, and what becomes of it when members die and history is compacted.

use etcd_client::Client;
use futures_util::{StreamExt as _, future::join_all};
use registry::{
    Document, DocumentView, DocumentWatch, Freshness, Registry, Store as _,
    backend::etcd::EtcdStore, one_line,
};

use crate::support::{cluster, etcdctl, service, shared, soon, store};

fn document(text: &str) -> Document {
    Document::new(text).expect("a document")
}

async fn until(watch: &mut DocumentWatch, is: impl Fn(&DocumentView) -> bool) {
    let seen = async {
        while !is(&watch.view()) {
            watch.changed().await;
        }
    };
    soon("what is waited for", seen).await;
}

#[tokio::test]
async fn a_document_is_a_key_below_the_namespace_that_others_may_write() {
    let cluster = shared().await;
    let store = EtcdStore::new(cluster.url("documents/eu").parse().expect("a URL"));
    let greeter = service("shop/greeter");
    let key = "documents/eu/_service_config/shop/greeter";
    let written = store.set_document(&greeter, document("{\"a\": 1}")).await;
    written.expect("it is written");
    let found = etcdctl(&cluster, &["get", "--prefix", "documents/"]).await;
    assert_eq!(found.trim(), format!("{key}\n{{\"a\": 1}}"));
    let mut watch = store.watch_document(&greeter);
    let mut next = async || {
        let next = soon("an item", watch.next()).await.expect("an item");
        next.expect("no error").expect("a document or none")
    };
    assert_eq!(next().await, Some(document("{\"a\": 1}")));
    etcdctl(&cluster, &["put", key, ""]).await;
    assert_eq!(next().await, Some(document("")));
    // What is beside it is something else.
    etcdctl(&cluster, &["put", &format!("{key}s"), "x"]).await;
    etcdctl(&cluster, &["put", &format!("{key}/x"), "x"]).await;
    etcdctl(&cluster, &["del", key]).await;
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_watch_of_a_document_that_fell_behind_a_compaction_ends_and_the_next_one_is_whole() {
    const WRITES: usize = 4_000;
    let cluster = cluster(1).await;
    let store = store(&cluster);
    let slow = service("slow");
    let mut watch = store.watch_document(&slow);
    let first = soon("an item", watch.next()).await.expect("an item");
    assert_eq!(first.expect("no error"), Ok(None));
    // Nobody reads, until etcd can neither send nor keep what it has to say.
    let client = Client::connect(cluster.endpoints(), None)
        .await
        .expect("a client");
    let mut revision = 0;
    for _ in 0..WRITES / 200 {
        let puts = (0..200).map(|_| {
            let mut client = client.clone();
            let put = async move {
                let key = "_service_config/slow";
                client.put(key, "x".repeat(2_000), None).await
            };
            Box::pin(put)
        });
        for put in join_all(puts).await {
            let header = put.expect("it is written").take_header().expect("a header");
            revision = revision.max(header.revision());
        }
    }
    let last = document("the last one");
    let written = store.set_document(&slow, last.clone()).await;
    written.expect("it is written");
    etcdctl(&cluster, &["compact", &revision.to_string()]).await;
    let error = loop {
        match soon("an item", watch.next()).await.expect("an item") {
            Ok(found) => assert_ne!(found, Ok(Some(last.clone())), "nothing was left out"),
            Err(error) => break one_line(&error),
        }
    };
    assert!(error.contains("compaction"), "{error}");
    assert!(watch.next().await.is_none(), "it ends with its error");
    let mut again = store.watch_document(&slow);
    let first = soon("an item", again.next()).await.expect("an item");
    assert_eq!(first.expect("no error"), Ok(Some(last)));
}

#[tokio::test]
async fn a_document_is_followed_when_the_members_die_one_after_another() {
    let mut cluster = cluster(3).await;
    let (owner, caller) = (
        Registry::new(store(&cluster)),
        Registry::new(store(&cluster)),
    );
    let greeter = service("greeter");
    let written = owner.set_document(&greeter, document("start")).await;
    written.expect("it is written");
    let mut watch = caller.document(&greeter);
    soon("the first", watch.first()).await;
    for member in 0..3 {
        cluster.kill(member).await.expect("it is killed");
        let text = document(&format!("without {member}"));
        // A new leader may be needed first.
        let written = testkit::eventually(
            crate::support::PATIENCE,
            "a majority takes it",
            async || {
                let written = owner.set_document(&greeter, text.clone()).await;
                written.is_ok()
            },
        );
        written.await;
        until(&mut watch, |view| {
            assert!(view.document.is_some(), "an error has taken it away");
            view.document.as_ref() == Some(&text) && view.freshness == Freshness::Live
        })
        .await;
        cluster.restart(member).await.expect("it is started");
    }
    let deleted = testkit::eventually(crate::support::PATIENCE, "it is deleted", async || {
        owner.delete_document(&greeter).await.is_ok()
    });
    deleted.await;
    until(&mut watch, |view| view.document.is_none()).await;
}

#[tokio::test]
async fn a_document_is_read_and_written_though_the_first_member_that_is_asked_is_dead() {
    let mut cluster = cluster(3).await;
    let follower = (cluster.leader().await.expect("a leader") + 1) % 3;
    cluster.kill(follower).await.expect("it is killed");
    let greeter = service("greeter");
    // Each begins at a random member.
    for number in 0..20 {
        let text = document(&number.to_string());
        let written = store(&cluster).set_document(&greeter, text.clone()).await;
        written.expect("it is written at another one");
        let read = store(&cluster).read_document(&greeter).await;
        assert_eq!(read.expect("it is read at another one"), Some(text));
        let deleted = store(&cluster).delete_document(&greeter).await;
        deleted.expect("it is deleted at another one");
    }
}

#[tokio::test]
async fn a_document_is_followed_after_the_cluster_was_wiped() {
    let mut cluster = cluster(1).await;
    let registry = Registry::new(store(&cluster));
    let greeter = service("greeter");
    for text in ["a", "b", "c"] {
        let written = registry.set_document(&greeter, document(text)).await;
        written.expect("it is written");
    }
    let mut watch = registry.document(&greeter);
    until(&mut watch, |view| view.document == Some(document("c"))).await;
    cluster.wipe().await.expect("it is wiped");
    until(&mut watch, |view| view.document.is_none()).await;
    let written = registry.set_document(&greeter, document("d")).await;
    written.expect("it is written");
    until(&mut watch, |view| view.document == Some(document("d"))).await;
}
