//! What becomes of a document that is followed when its store fails.

use registry::{Document, DocumentView, DocumentWatch, Freshness, InvalidDocument, Registry};
use tokio::time::timeout;

use crate::{
    BOUND,
    faulty::{NewWatches, faulty},
    greeter,
};

fn document(text: &str) -> Document {
    Document::new(text).expect("a document")
}

async fn set(registry: &Registry, text: &str) {
    let set = registry.set_document(&greeter(), document(text)).await;
    set.expect("it is written");
}

async fn view(watch: &mut DocumentWatch, is: impl Fn(&DocumentView) -> bool) -> DocumentView {
    let found = timeout(BOUND, async {
        let mut view = watch.view();
        while !is(&view) {
            view = watch.changed().await;
        }
        view
    });
    found.await.expect("within the bound")
}

fn is_live(view: &DocumentView) -> bool {
    view.freshness == Freshness::Live
}

fn is_stale(view: &DocumentView) -> bool {
    matches!(view.freshness, Freshness::Stale { .. })
}

#[tokio::test(start_paused = true)]
async fn a_document_is_not_known_before_the_registry_was_read() {
    let (registry, faults) = faulty();
    faults.set_down(true);
    let mut watch = registry.document(&greeter());
    assert_eq!(watch.view().freshness, Freshness::Starting);
    let stale = view(&mut watch, is_stale).await;
    assert_eq!((stale.document, stale.is_known), (None, false));
    set(&registry, "a").await;
    faults.set_down(false);
    let first = timeout(BOUND, watch.first()).await;
    assert_eq!(first.expect("within the bound"), Some(document("a")));
    assert!(is_live(&watch.view()));
}

#[tokio::test(start_paused = true)]
async fn that_there_is_no_document_is_known_once_the_registry_was_read() {
    let (registry, _faults) = faulty();
    let mut watch = registry.document(&greeter());
    let first = timeout(BOUND, watch.first()).await;
    assert_eq!(first.expect("within the bound"), None);
    let known = watch.view();
    assert!(known.is_known && is_live(&known), "{known:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_makes_a_document_stale_and_takes_nothing_away() {
    let (registry, faults) = faulty();
    set(&registry, "a").await;
    let mut watch = registry.document(&greeter());
    view(&mut watch, is_live).await;
    faults.let_watches(NewWatches::Fail);
    faults.break_watches();
    let stale = view(&mut watch, is_stale).await;
    assert_eq!(stale.document, Some(document("a")));
    set(&registry, "b").await;
    faults.let_watches(NewWatches::Work);
    let live = view(&mut watch, is_live).await;
    assert_eq!(live.document, Some(document("b")));
    faults.let_watches(NewWatches::Fail);
    faults.break_watches();
    view(&mut watch, is_stale).await;
    let deleted = registry.delete_document(&greeter()).await;
    deleted.expect("it is deleted");
    faults.let_watches(NewWatches::Work);
    let live = view(&mut watch, is_live).await;
    assert_eq!((live.document, live.is_known), (None, true));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_document_leaves_the_last_one_in_force_and_is_not_asked_for_again() {
    let (registry, faults) = faulty();
    set(&registry, "a").await;
    let mut watch = registry.document(&greeter());
    view(&mut watch, is_live).await;
    faults.spoil_documents(InvalidDocument::TooLarge { bytes: 70_000 });
    let stale = view(&mut watch, is_stale).await;
    assert_eq!(stale.document, Some(document("a")));
    let too_large = InvalidDocument::TooLarge { bytes: 70_000 };
    assert_eq!(stale.refused, Some(too_large));
    let Freshness::Stale { cause, .. } = stale.freshness else {
        unreachable!("it was waited for");
    };
    assert!(cause.contains("70000 bytes"), "{cause}");
    let nothing = timeout(BOUND, watch.changed()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    assert_eq!(faults.watches_started(), 1);
    set(&registry, "b").await;
    let live = view(&mut watch, is_live).await;
    assert_eq!((live.document, live.refused), (Some(document("b")), None));
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_written_anew_word_for_word_has_another_revision() {
    let (registry, _faults) = faulty();
    let mut watch = registry.document(&greeter());
    for expected in [1, 2] {
        set(&registry, "a").await;
        let revision = |view: &DocumentView| view.document.as_ref()?.origin().map(|o| o.revision.0);
        view(&mut watch, |view| revision(view) == Some(expected)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_watch_serves_all_who_follow_a_document_and_ends_with_the_last() {
    let (registry, faults) = faulty();
    let first = registry.document(&greeter());
    let second = registry.clone().document(&greeter());
    let mut third = second.clone();
    third.first().await;
    assert_eq!(faults.watches_started(), 1);
    assert_eq!(faults.watches_running(), 1);
    drop((first, second, third));
    timeout(BOUND, faults.no_watch_is_running())
        .await
        .expect("ends with its last follower");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_change_can_be_given_up_and_begun_again() {
    let (registry, _faults) = faulty();
    let mut watch = registry.document(&greeter());
    view(&mut watch, is_live).await;
    for text in ["a", "b"] {
        let nothing = timeout(BOUND, watch.changed()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        set(&registry, text).await;
        let seen = view(&mut watch, |view| view.document == Some(document(text))).await;
        assert!(is_live(&seen), "{seen:?}");
    }
}
