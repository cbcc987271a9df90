//! What becomes of intents when their store fails: nobody who is drained takes a call, and nobody is unknown for ever.

use std::time::Duration;

use registry::{
    Freshness, Instance, InstanceId, Intent, Registry, Snapshot, SnapshotWatch, Status, View,
    Weight,
};
use tokio::time::{Instant, timeout};

use crate::{
    BOUND, TTL,
    faulty::{NewWatches, faulty},
    greeter, held, instance, view,
};

fn id() -> InstanceId {
    instance().id
}

async fn drain(registry: &Registry) {
    let intent = Intent::from(Status::Draining);
    let set = registry.set_intent(&greeter(), &id(), intent).await;
    set.expect("it is written");
}

fn greeter_in(snapshot: &Snapshot) -> &Instance {
    snapshot.get(&id()).expect("it is registered")
}

fn status(view: &View) -> Option<Status> {
    Some(greeter_in(view.snapshot.as_ref()?).status)
}

fn is_live(view: &View) -> bool {
    view.freshness == Freshness::Live
}

fn cause(view: &View) -> &str {
    match &view.freshness {
        Freshness::Stale { cause, .. } => cause,
        other => panic!("it is {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_intent_wins_over_all_that_the_owner_says_and_gives_the_instance_back_in_the_end() {
    let (registry, faults) = faulty();
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    let mut watch = registry.watch(&greeter());
    view(&mut watch, |view| status(view) == Some(Status::Serving)).await;
    drain(&registry).await;
    view(&mut watch, |view| status(view) == Some(Status::Draining)).await;
    let heavy = Weight::new(7).expect("a weight");
    let update = |i: Instance| i.with_status(Status::NotServing).with_weight(heavy);
    registration.update(update).await;
    let is_updated = |view: &View| {
        assert_eq!(status(view), Some(Status::Draining));
        greeter_in(view.snapshot.as_ref().expect("read")).weight == heavy
    };
    let seen = view(&mut watch, is_updated).await.snapshot.expect("read");
    let drained = greeter_in(&seen);
    assert_eq!(drained.own_status(), Status::NotServing);
    assert_eq!(drained.intent(), Some(&Intent::from(Status::Draining)));
    let mut states = registration.states();
    states.borrow_and_update();
    faults.lose_all_holds();
    states.changed().await.expect("the keeper lives");
    held(&registration).await;
    let listed = registry.list(&greeter()).await.expect("a list");
    assert_eq!(greeter_in(&listed), greeter_in(&seen));
    let cleared = registry.clear_intent(&greeter(), &id()).await;
    cleared.expect("it is deleted");
    view(&mut watch, |view| status(view) == Some(Status::NotServing)).await;
    registration
        .update(|i| i.with_status(Status::Serving))
        .await;
    view(&mut watch, |view| status(view) == Some(Status::Serving)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_registered_of_an_instance_that_was_read_is_what_it_says_itself() {
    let (registry, _faults) = faulty();
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    drain(&registry).await;
    let listed = registry.list(&greeter()).await.expect("a list");
    let drained = greeter_in(&listed).clone();
    assert_eq!(drained.status, Status::Draining);
    let again = registry.register(drained, TTL);
    held(&again).await;
    assert_eq!(again.instance().status, Status::Serving);
    let cleared = registry.clear_intent(&greeter(), &id()).await;
    cleared.expect("it is deleted");
    let listed = registry.list(&greeter()).await.expect("a list");
    assert_eq!(greeter_in(&listed).status, Status::Serving);
}

/// The first snapshot, how long it took, and how it stands then.
async fn first(watch: &mut SnapshotWatch) -> (View, Duration) {
    let asked = Instant::now();
    let first = timeout(BOUND, watch.first()).await;
    first.expect("within the bound");
    (watch.view(), asked.elapsed())
}

#[tokio::test(start_paused = true)]
async fn instances_wait_for_the_intents_that_are_read_late() {
    let (registry, faults) = faulty();
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    drain(&registry).await;
    faults.let_intents(NewWatches::Fail);
    let mut watch = registry.watch(&greeter());
    let nothing = timeout(Duration::from_secs(1), watch.changed()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    assert_eq!(watch.view().freshness, Freshness::Starting);
    faults.let_intents(NewWatches::Work);
    let (first, _) = first(&mut watch).await;
    assert_eq!(status(&first), Some(Status::Draining));
    assert!(is_live(&first), "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn intents_that_cannot_be_read_keep_nobody_from_being_known_for_long() {
    for (fault, says) in [
        (NewWatches::Fail, "connection refused"),
        (NewWatches::Hang, "have not been read yet"),
    ] {
        let (registry, faults) = faulty();
        let registration = registry.register(instance(), TTL);
        held(&registration).await;
        drain(&registry).await;
        faults.let_intents(fault);
        let mut watch = registry.watch(&greeter());
        let (first, after) = first(&mut watch).await;
        assert_eq!(after.as_secs(), 2);
        assert_eq!(status(&first), Some(Status::Serving));
        assert!(cause(&first).contains(says), "{first:?}");
        let listed = registry.list(&greeter()).await;
        listed.expect_err("a list cannot say that it is not sure");
        // What its owner says meanwhile is seen all the same.
        registration.drain().await;
        let now = view(&mut watch, |view| status(view) == Some(Status::Draining)).await;
        assert!(cause(&now).contains(says), "{now:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn intents_that_were_known_stay_in_force_while_they_cannot_be_read() {
    let (registry, faults) = faulty();
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    drain(&registry).await;
    let mut watch = registry.watch(&greeter());
    view(&mut watch, is_live).await;
    faults.let_intents(NewWatches::Fail);
    faults.break_watches();
    let stale = view(&mut watch, |view| !is_live(view)).await;
    assert_eq!(status(&stale), Some(Status::Draining));
    let cleared = registry.clear_intent(&greeter(), &id()).await;
    cleared.expect("it is deleted");
    // Long after the instances are followed again.
    tokio::time::sleep(BOUND).await;
    let stale = watch.view();
    assert_eq!(status(&stale), Some(Status::Draining));
    assert!(cause(&stale).contains("connection refused"), "{stale:?}");
    faults.let_intents(NewWatches::Work);
    let live = view(&mut watch, is_live).await;
    assert_eq!(status(&live), Some(Status::Serving));
}
