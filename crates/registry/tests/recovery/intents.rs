//! What becomes of intents when their store fails: nobody who is drained takes a call, and nobody is unknown for ever.

use std::time::Duration;

use registry::{
    Freshness, Instance, InstanceId, Intent, Registration, RegistrationState, Registry, Snapshot,
    SnapshotWatch, Status, View, Weight,
};
use tokio::time::{Instant, timeout};

use crate::{
    BOUND, TTL,
    faulty::{Faults, NewWatches, faulty},
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
    faults.let_intents(NewWatches::Fail);
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    drain(&registry).await;
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
        faults.let_intents(fault);
        let registration = registry.register(instance(), TTL);
        held(&registration).await;
        drain(&registry).await;
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
    // Whoever takes it back can read it.
    faults.let_intents(NewWatches::Work);
    let cleared = registry.clear_intent(&greeter(), &id()).await;
    cleared.expect("it is deleted");
    faults.let_intents(NewWatches::Fail);
    // Long after the instances are followed again.
    tokio::time::sleep(BOUND).await;
    let stale = watch.view();
    assert_eq!(status(&stale), Some(Status::Draining));
    assert!(cause(&stale).contains("connection refused"), "{stale:?}");
    faults.let_intents(NewWatches::Work);
    let live = view(&mut watch, is_live).await;
    assert_eq!(status(&live), Some(Status::Serving));
}

/// Waits until the instance is listed in that status, carrying or not what an operator wanted; it is never absent.
async fn listed(registry: &Registry, wanted: Status) -> Instance {
    let found = timeout(BOUND, async {
        loop {
            let listed = registry.list(&greeter()).await.expect("a list");
            let greeter = greeter_in(&listed);
            if greeter.status == wanted {
                return greeter.clone();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    found.await.expect("within the bound")
}

/// A registration that has seen that it is to be drained, at revision 20 of the store.
async fn drained_at_20() -> (Registry, Faults, Registration) {
    let (registry, faults) = faulty();
    faults.stand_at(20);
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    drain(&registry).await;
    // Long after it was told.
    tokio::time::sleep(BOUND).await;
    (registry, faults, registration)
}

async fn clear(registry: &Registry) {
    let cleared = registry.clear_intent(&greeter(), &id()).await;
    cleared.expect("it is written");
}

#[tokio::test(start_paused = true)]
async fn a_registration_carries_what_its_store_has_lost_until_that_is_taken_back() {
    let (registry, faults, registration) = drained_at_20().await;
    // What is deleted in a store that has gone back was not taken back.
    faults.stand_at(3);
    clear(&registry).await;
    tokio::time::sleep(BOUND).await;
    let drained = listed(&registry, Status::Draining).await;
    assert_eq!(drained.own_status(), Status::Serving);
    assert_eq!(drained.intent(), Some(&Intent::from(Status::Draining)));
    assert!(matches!(
        registration.state(),
        RegistrationState::Held { .. }
    ));
    // What its owner says, and however far the store goes on, changes nothing in that.
    faults.stand_at(1_000);
    let heavy = Weight::new(7).expect("a weight");
    registration.update(|i| i.with_weight(heavy)).await;
    let other = InstanceId::new("10.0.0.8:1").expect("an id");
    let set = registry.set_intent(&greeter(), &other, heavy.into()).await;
    set.expect("it is written");
    tokio::time::sleep(BOUND).await;
    let drained = listed(&registry, Status::Draining).await;
    assert_eq!(drained.own_weight(), heavy);
    faults.lose_all_holds();
    tokio::time::sleep(BOUND).await;
    listed(&registry, Status::Draining).await;

    clear(&registry).await;
    let serving = listed(&registry, Status::Serving).await;
    assert_eq!(serving.intent(), None);
    let intents = registry.intents(&greeter()).await.expect("an answer");
    assert_eq!(intents.get(&id()), None, "nothing is no intent");
    // It has forgotten as well.
    tokio::time::sleep(BOUND).await;
    drain(&registry).await;
    clear(&registry).await;
    listed(&registry, Status::Serving).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_back_to_a_store_that_was_wiped_carries_what_was_wanted_from_the_first() {
    let (registry, faults, registration) = drained_at_20().await;
    // Nobody is told of intents any more.
    faults.let_watches(NewWatches::Fail);
    faults.break_watches();
    faults.stand_at(3);
    clear(&registry).await;
    let mut states = registration.states();
    states.borrow_and_update();
    faults.lose_all_holds();
    states.changed().await.expect("the keeper lives");
    held(&registration).await;
    let again = registry.list(&greeter()).await.expect("a list");
    assert_eq!(greeter_in(&again).status, Status::Draining);
    // Nor does what was known before count when it fails to be read again, or when it is.
    tokio::time::sleep(BOUND).await;
    listed(&registry, Status::Draining).await;
    faults.let_watches(NewWatches::Work);
    tokio::time::sleep(BOUND).await;
    listed(&registry, Status::Draining).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_back_to_a_store_whose_intents_cannot_be_read_waits_until_they_can() {
    let (registry, faults, registration) = drained_at_20().await;
    faults.let_intents(NewWatches::Fail);
    faults.break_watches();
    faults.lose_all_holds();
    tokio::time::sleep(BOUND).await;
    let state = registration.state();
    let RegistrationState::Retrying { cause, .. } = state else {
        panic!("it is {state:?}")
    };
    assert!(cause.contains("connection refused"), "{cause}");
    faults.let_intents(NewWatches::Work);
    held(&registration).await;
    listed(&registry, Status::Draining).await;
    clear(&registry).await;
    listed(&registry, Status::Serving).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_never_saw_an_intent_carries_none() {
    let (registry, faults) = faulty();
    faults.stand_at(20);
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    faults.stand_at(3);
    faults.break_watches();
    faults.lose_all_holds();
    tokio::time::sleep(BOUND).await;
    held(&registration).await;
    let serving = listed(&registry, Status::Serving).await;
    assert_eq!(serving.intent(), None);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_registers_and_follows_a_service_has_one_watch_of_its_intents() {
    let (registry, faults) = faulty();
    let registration = registry.register(instance(), TTL);
    let other = InstanceId::new("10.0.0.8:1").expect("an id");
    let beside = registry.register(instance().with_id(other), TTL);
    held(&registration).await;
    held(&beside).await;
    assert_eq!(faults.watches_started(), 1);
    let mut watch = registry.watch(&greeter());
    watch.first().await;
    assert_eq!(faults.watches_started(), 2, "of intents and of instances");
    drop((watch, beside));
    registration.deregister().await.expect("removed");
    let ended = timeout(BOUND, faults.no_watch_is_running()).await;
    ended.expect("it ends with the last who needs it");
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_back_twice_stays_so() {
    let (registry, _faults) = faulty();
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    drain(&registry).await;
    for _ in 0..3 {
        clear(&registry).await;
        listed(&registry, Status::Serving).await;
        let intents = registry.intents(&greeter()).await.expect("an answer");
        assert!(intents.is_empty());
    }
    drain(&registry).await;
    listed(&registry, Status::Draining).await;
}
