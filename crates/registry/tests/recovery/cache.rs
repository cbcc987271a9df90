//! What a process that starts while its registry is down knows of an earlier one's directory.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use registry::{Document, DocumentView, Freshness, Instance, Registration, Registry, Status, View};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    BOUND, TTL,
    faulty::{Faults, NewWatches, faulty},
    greeter, held, instance, view,
};

/// A process that has known one drained instance and a document until it ended.
async fn earlier(directory: &Path) {
    let (registry, _faults) = process(directory);
    let _registration = registered(&registry).await;
    let (greeter, id) = (greeter(), instance().id);
    let drained = registry.set_intent(&greeter, &id, Status::Draining.into());
    drained.await.expect("it is written");
    let document = registry.set_document(&greeter, document("earlier"));
    document.await.expect("it is written");
    let (mut instances, mut documents) = (registry.watch(&greeter), registry.document(&greeter));
    instances.first().await;
    documents.first().await;
    let kept = ["instances", "documents"].map(|kind| kept(directory, kind));
    until(|| kept.iter().all(|file| file.exists())).await;
}

fn process(directory: &Path) -> (Registry, Faults) {
    let (registry, faults) = faulty();
    (registry.with_cache(directory), faults)
}

async fn registered(registry: &Registry) -> Registration {
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    registration
}

/// Where what is known of the greeter is kept.
fn kept(directory: &Path, kind: &str) -> PathBuf {
    let registry = directory.join("url=faulty:");
    registry.join(kind).join("greeter.json")
}

async fn until(is: impl Fn() -> bool) {
    let waited = async {
        while !is() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(BOUND, waited).await.expect("within the bound");
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn document(text: &str) -> Document {
    Document::new(text).expect("a document")
}

fn is_live(view: &View) -> bool {
    view.freshness == Freshness::Live
}

fn greeter_in(view: &View) -> &Instance {
    let snapshot = view.snapshot.as_ref().expect("it is known");
    snapshot.get(&instance().id).expect("it is there")
}

fn cause(freshness: &Freshness) -> &str {
    match freshness {
        Freshness::Stale { cause, .. } => cause,
        other => panic!("it is {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_while_the_registry_is_down_knows_at_once_what_was_known_last() {
    let directory = directory();
    earlier(directory.path()).await;
    let (registry, faults) = process(directory.path());
    faults.set_down(true);
    faults.let_intents(NewWatches::Fail);
    let started = Instant::now();
    let mut watch = registry.watch(&greeter());
    let mut documents = registry.document(&greeter());
    timeout(BOUND, watch.first()).await.expect("it is known");
    assert_eq!(started.elapsed(), Duration::ZERO);
    let kept = watch.view();
    assert_eq!(greeter_in(&kept).status, Status::Draining);
    assert_eq!(greeter_in(&kept).own_status(), Status::Serving);
    for says in ["cache only", "connection refused"] {
        assert!(cause(&kept.freshness).contains(says), "{kept:?}");
    }
    let known = timeout(BOUND, documents.first())
        .await
        .expect("it is known");
    assert_eq!(known, Some(document("earlier")));
    assert!(cause(&documents.view().freshness).contains("cache only"));
    // For as long as it takes.
    sleep(Duration::from_hours(1)).await;
    assert_eq!(watch.view().snapshot, kept.snapshot);

    // This one's registry has nobody, and then somebody who is not drained.
    faults.set_down(false);
    faults.let_intents(NewWatches::Work);
    let live = view(&mut watch, is_live).await;
    assert!(live.snapshot.is_some_and(|all| all.is_empty()));
    let is_live = |view: &DocumentView| view.freshness == Freshness::Live;
    while !is_live(&documents.view()) {
        documents.changed().await;
    }
    assert_eq!(documents.view().document, None);
    let _registration = registered(&registry).await;
    let is_serving = |view: &View| {
        let seen = view
            .snapshot
            .as_ref()
            .and_then(|all| all.get(&instance().id));
        seen.is_some_and(|instance| instance.status == Status::Serving)
    };
    view(&mut watch, is_serving).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_is_not_shown_to_whom_the_registry_answers() {
    let directory = directory();
    earlier(directory.path()).await;
    let (registry, _faults) = process(directory.path());
    let (mut watch, mut documents) = (registry.watch(&greeter()), registry.document(&greeter()));
    let first = timeout(BOUND, watch.changed()).await.expect("it is known");
    assert!(is_live(&first), "{first:?}");
    assert!(first.snapshot.is_some_and(|all| all.is_empty()));
    let first = timeout(BOUND, documents.changed()).await;
    let first = first.expect("it is known");
    assert_eq!((first.document, first.freshness), (None, Freshness::Live));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_answer_keeps_nobody_waiting() {
    let directory = directory();
    earlier(directory.path()).await;
    let (registry, faults) = process(directory.path());
    faults.let_watches(NewWatches::Hang);
    faults.let_intents(NewWatches::Hang);
    let started = Instant::now();
    let (mut watch, mut documents) = (registry.watch(&greeter()), registry.document(&greeter()));
    timeout(BOUND, watch.first()).await.expect("it is known");
    timeout(BOUND, documents.first())
        .await
        .expect("it is known");
    let waited = started.elapsed();
    assert!(waited < Duration::from_millis(310), "{waited:?}");
    let kept = watch.view();
    assert_eq!(greeter_in(&kept).status, Status::Draining);
    assert!(
        cause(&kept.freshness).contains("not been read yet"),
        "{kept:?}"
    );
    assert_eq!(documents.view().document, Some(document("earlier")));
}

#[tokio::test(start_paused = true)]
async fn intents_that_were_kept_are_in_force_until_they_can_be_read() {
    let directory = directory();
    earlier(directory.path()).await;
    let (registry, faults) = process(directory.path());
    faults.let_intents(NewWatches::Fail);
    let _registration = registered(&registry).await;
    let mut watch = registry.watch(&greeter());
    timeout(BOUND, watch.first()).await.expect("it is known");
    let kept = watch.view();
    assert_eq!(greeter_in(&kept).status, Status::Draining);
    assert!(cause(&kept.freshness).contains("cache only"), "{kept:?}");
    faults.let_intents(NewWatches::Work);
    let live = view(&mut watch, is_live).await;
    assert_eq!(greeter_in(&live).status, Status::Serving);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_cannot_be_used_hinders_nobody() {
    let directory = directory();
    earlier(directory.path()).await;
    let file = kept(directory.path(), "instances");
    fs::write(&file, "{").expect("it is ours");
    for cache in [directory.path(), &file] {
        let (registry, faults) = process(cache);
        faults.set_down(true);
        let mut watch = registry.watch(&greeter());
        let stale = timeout(BOUND, watch.changed()).await.expect("it fails");
        assert_eq!(stale.snapshot, None);
        faults.set_down(false);
        let _registration = registered(&registry).await;
        let has_it = |view: &View| view.snapshot.as_ref().is_some_and(|all| all.len() == 1);
        let live = view(&mut watch, has_it).await;
        assert_eq!(greeter_in(&live).status, Status::Serving);
        let whole = || fs::read(&file).is_ok_and(|text| text.ends_with(b"}}"));
        until(whole).await;
    }
    // What was no use was replaced.
    let (registry, faults) = process(directory.path());
    faults.set_down(true);
    let known = timeout(BOUND, registry.watch(&greeter()).first()).await;
    assert_eq!(known.expect("it is known").len(), 1);
}
