//! A client that starts while all of etcd is down.

use std::{sync::Arc, time::Duration};

use registry::{
    Document, DocumentWatch, Freshness, Instance, Registry, SnapshotWatch, Status, View,
};
use testkit::{etcd::Cluster, eventually};

use crate::support::{PATIENCE, cluster, instance, service, soon, store};

/// Leases outlive what is done here.
const TTL: Duration = Duration::from_mins(5);

fn caller(cluster: &Cluster, cache: &tempfile::TempDir) -> (SnapshotWatch, DocumentWatch) {
    let registry = Registry::new(store(cluster)).with_cache(cache.path());
    (
        registry.watch(&service("shop/greeter")),
        registry.document(&service("shop/greeter")),
    )
}

async fn until(watch: &mut SnapshotWatch, is: impl Fn(&View) -> bool) -> View {
    let seen = async {
        while !is(&watch.view()) {
            watch.changed().await;
        }
    };
    soon("what is waited for", seen).await;
    watch.view()
}

fn count(view: &View) -> usize {
    view.snapshot.as_ref().map_or(0, registry::Snapshot::len)
}

fn seen<'a>(view: &'a View, instance: &Instance) -> &'a Arc<Instance> {
    let snapshot = view.snapshot.as_ref().expect("it is known");
    snapshot.get(&instance.id).expect("it is there")
}

#[tokio::test]
async fn a_client_that_starts_while_all_of_etcd_is_down_knows_all_and_then_what_is_there() {
    let mut cluster = cluster(3).await;
    let cache = tempfile::tempdir().expect("a temporary directory");
    let owner = Registry::new(store(&cluster));
    let greeters = [1, 2, 3].map(|port| instance("shop/greeter", port));
    let [_one, two, _three] = greeters.clone().map(|greeter| owner.register(greeter, TTL));
    let service = service("shop/greeter");
    let drained = owner.set_intent(&service, &greeters[0].id, Status::Draining.into());
    drained.await.expect("it is written");
    let text = Document::new("{}").expect("a document");
    let written = owner.set_document(&service, text.clone()).await;
    written.expect("it is written");
    {
        let (mut instances, mut documents) = caller(&cluster, &cache);
        until(&mut instances, |view| count(view) == 3).await;
        assert_eq!(
            soon("a document", documents.first()).await,
            Some(text.clone())
        );
        let (kept, drained) = (cache.path(), greeters[0].id.as_str());
        eventually(PATIENCE, "all of it is kept", async || {
            let files = texts_below(kept);
            let all = |text: &str| {
                text.contains(drained) && text.contains("draining") && text.contains("10.0.0.7:3")
            };
            files.len() == 2 && files.iter().any(|text| all(text))
        })
        .await;
    }
    cluster.stop_all().await.expect("all are killed");

    let (mut instances, mut documents) = caller(&cluster, &cache);
    let known = soon("what was known last", instances.first()).await;
    assert_eq!(soon("its document", documents.first()).await, Some(text));
    assert_eq!(known.len(), 3);
    let kept = instances.view();
    assert!(
        matches!(kept.freshness, Freshness::Stale { .. }),
        "{kept:?}"
    );
    assert_eq!(seen(&kept, &greeters[0]).status, Status::Draining);
    assert_eq!(seen(&kept, &greeters[1]).status, Status::Serving);

    cluster.start_all().await.expect("all are started");
    two.deregister().await.expect("etcd is back");
    let four = instance("shop/greeter", 4);
    let _four = owner.register(four.clone(), TTL);
    let live = until(&mut instances, |view| {
        let has = |instance: &Instance| {
            view.snapshot
                .as_ref()
                .is_some_and(|all| all.get(&instance.id).is_some())
        };
        assert!(
            has(&greeters[0]) && has(&greeters[2]),
            "an outage removes nobody"
        );
        view.freshness == Freshness::Live && has(&four) && !has(&greeters[1])
    })
    .await;
    assert_eq!(count(&live), 3);
    assert_eq!(seen(&live, &greeters[0]).status, Status::Draining);
    for same in [&greeters[0], &greeters[2]] {
        let is_same = Arc::ptr_eq(seen(&live, same), seen(&kept, same));
        assert!(is_same, "what was kept and is the same was no change");
    }
}

/// The texts of all files below a directory.
fn texts_below(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let texts = entries.flat_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            texts_below(&path)
        } else {
            std::fs::read_to_string(path).into_iter().collect()
        }
    });
    texts.collect()
}
