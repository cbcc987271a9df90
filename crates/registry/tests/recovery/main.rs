//! What registrations and reflectors do when their store fails: time is paused, and the faults are a script's.

mod cache;
mod documents;
mod faulty;
mod intents;
mod logging;

use std::time::Duration;

use faulty::{NewWatches, faulty};
use registry::{
    Address, Freshness, Instance, Registration, RegistrationState, Registry, ServiceName,
    SnapshotWatch, Status, Weight,
};
use tokio::time::{Instant, timeout};

const TTL: Duration = Duration::from_secs(9);
const BOUND: Duration = Duration::from_mins(1);

fn greeter() -> ServiceName {
    ServiceName::new("greeter").expect("a name")
}

fn instance() -> Instance {
    Instance::new(
        greeter(),
        Address::new("10.0.0.7:50051").expect("an address"),
    )
}

async fn until(
    registration: &Registration,
    is: impl Fn(&RegistrationState) -> bool,
) -> RegistrationState {
    let mut states = registration.states();
    let state = timeout(BOUND, states.wait_for(is))
        .await
        .expect("within the bound")
        .expect("the keeper lives");
    state.clone()
}

async fn held(registration: &Registration) {
    until(registration, |state| {
        matches!(state, RegistrationState::Held { .. })
    })
    .await;
}

async fn view(watch: &mut SnapshotWatch, is: impl Fn(&registry::View) -> bool) -> registry::View {
    let found = timeout(BOUND, async {
        let mut view = watch.view();
        while !is(&view) {
            view = watch.changed().await;
        }
        view
    });
    found.await.expect("within the bound")
}

async fn names(registry: &Registry) -> Vec<String> {
    let snapshot = registry.list(&greeter()).await.expect("a list");
    snapshot
        .instances()
        .map(|instance| instance.id.to_string())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_deleted_comes_back_unless_it_drains_until_it_is_to_serve_again() {
    let (registry, faults) = faulty();
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    let mut states = registration.states();
    states.borrow_and_update();
    faults.delete_all_holds();
    states.changed().await.expect("the keeper lives");
    held(&registration).await;
    assert_eq!(names(&registry).await.len(), 1);

    registration.drain().await;
    faults.delete_all_holds();
    tokio::time::sleep(BOUND).await;
    assert_eq!(names(&registry).await.len(), 0);
    assert_eq!(registration.state(), RegistrationState::Draining);
    let weight = Weight::new(2).expect("a weight");
    let changed = registration.update(|instance| instance.with_weight(weight));
    timeout(BOUND, changed)
        .await
        .expect("nothing is to be waited for");
    assert_eq!(names(&registry).await.len(), 0);

    registration
        .update(|instance| instance.with_status(Status::Serving))
        .await;
    held(&registration).await;
    assert_eq!(names(&registry).await.len(), 1);
    registration.drain().await;
    faults.delete_all_holds();
    tokio::time::sleep(BOUND).await;
    registration.deregister().await.expect("nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_is_lost_is_held_again_at_once_and_less_soon_each_further_time() {
    let (registry, faults) = faulty();
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    let mut states = registration.states();
    let mut absences = Vec::new();
    for _ in 0..4 {
        states.borrow_and_update();
        let lost = Instant::now();
        faults.lose_all_holds();
        timeout(BOUND, states.changed())
            .await
            .expect("within the bound")
            .expect("the keeper lives");
        held(&registration).await;
        absences.push(lost.elapsed());
    }
    assert_eq!(absences[0], Duration::ZERO);
    assert!(
        absences[1] >= Duration::from_millis(50) && absences[3] > absences[1],
        "{absences:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_down_is_tried_for_ever_and_never_more_than_a_third_of_the_ttl_apart() {
    let (registry, faults) = faulty();
    faults.set_down(true);
    let registration = registry.register(instance(), Duration::from_secs(3));
    // An hour, at paused time.
    tokio::time::sleep(Duration::from_hours(1)).await;
    let state = registration.state();
    let RegistrationState::Retrying { attempts, .. } = state else {
        panic!("it is {state:?}")
    };
    assert!(attempts >= 3_000, "{attempts} tries in an hour");
    faults.set_down(false);
    let back = Instant::now();
    held(&registration).await;
    assert!(
        back.elapsed() <= Duration::from_millis(1_200),
        "took {:?}: a third of the TTL, ± 20 %",
        back.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_while_the_registry_hangs_is_what_is_registered() {
    let (registry, faults) = faulty();
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    faults.hang_holds(true);
    faults.lose_all_holds();
    until(&registration, |state| {
        matches!(state, RegistrationState::Retrying { .. })
    })
    .await;
    // At paused time: it is being held again by now.
    tokio::time::sleep(TTL).await;
    let heavy = Weight::new(7).expect("a weight");
    let asked = Instant::now();
    let updated = registration.update(|instance| instance.with_weight(heavy));
    timeout(BOUND, updated).await.expect("within the bound");
    assert_eq!(asked.elapsed(), Duration::ZERO, "it waits for no answer");
    let state = registration.state();
    assert!(!state.is_held(), "{state:?}");
    faults.hang_holds(false);
    held(&registration).await;
    let mut watch = registry.watch(&greeter());
    view(&mut watch, |view| {
        let mut seen = view.snapshot.iter().flat_map(registry::Snapshot::instances);
        seen.any(|instance| instance.weight == heavy)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_update_that_fails_is_made_again_without_giving_the_hold_up() {
    let (registry, faults) = faulty();
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    let mut watch = registry.watch(&greeter());
    watch.first().await;
    faults.fail_updates(3);
    registration.drain().await;
    let drained = |view: &registry::View| {
        let snapshot = view.snapshot.as_ref().expect("read");
        assert_eq!(snapshot.len(), 1, "never absent");
        snapshot
            .instances()
            .all(|instance| instance.status == Status::Draining)
    };
    view(&mut watch, drained).await;
    until(&registration, |state| *state == RegistrationState::Draining).await;
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_a_later_process_took_over_ends_and_takes_nothing_back() {
    let (registry, _faults) = faulty();
    let earlier = registry.register(instance(), TTL);
    held(&earlier).await;
    let later = registry.register(instance(), TTL);
    held(&later).await;
    let state = until(&earlier, |state| {
        matches!(state, RegistrationState::Superseded { .. })
    })
    .await;
    assert!(matches!(state, RegistrationState::Superseded { .. }));
    earlier.deregister().await.expect("nothing to do");
    assert_eq!(
        names(&registry).await,
        ["10.0.0.7:50051"],
        "the later one's is still there"
    );
    assert!(matches!(later.state(), RegistrationState::Held { .. }));
}

#[tokio::test(start_paused = true)]
async fn deregistering_removes_the_instance_and_a_drop_does_soon() {
    let (registry, _faults) = faulty();
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    registration.deregister().await.expect("removed");
    assert!(names(&registry).await.is_empty());

    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    let mut states = registration.states();
    drop(registration);
    let ended = states.wait_for(|state| *state == RegistrationState::Deregistered);
    timeout(BOUND, ended)
        .await
        .expect("within the bound")
        .expect("said before the end");
    assert!(names(&registry).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn deregistering_at_once_after_registering_leaves_nothing_and_does_not_wait() {
    for _ in 0..100 {
        let (registry, _faults) = faulty();
        let started = Instant::now();
        let registration = registry.register(instance(), TTL);
        registration.deregister().await.expect("removed");
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert!(names(&registry).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn deregistering_while_the_registry_is_down_ends_at_once() {
    let (registry, faults) = faulty();
    faults.set_down(true);
    let registration = registry.register(instance(), TTL);
    until(&registration, |state| {
        matches!(state, RegistrationState::Retrying { attempts: 3, .. })
    })
    .await;
    let started = Instant::now();
    registration
        .deregister()
        .await
        .expect("there is nothing to remove");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_makes_the_snapshot_stale_and_never_empty() {
    let (registry, faults) = faulty();
    let registration = registry.register(instance(), TTL);
    held(&registration).await;
    let mut watch = registry.watch(&greeter());
    view(&mut watch, |view| view.freshness == Freshness::Live).await;
    faults.set_down(true);
    faults.break_watches();
    let stale = view(&mut watch, |view| {
        matches!(view.freshness, Freshness::Stale { .. })
    })
    .await;
    assert_eq!(stale.snapshot.expect("kept").len(), 1);
    faults.set_down(false);
    let live = view(&mut watch, |view| view.freshness == Freshness::Live).await;
    assert_eq!(live.snapshot.expect("kept").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_happened_while_a_watch_was_broken_is_seen_when_it_is_back() {
    let (registry, faults) = faulty();
    let gone = registry.register(instance(), TTL);
    held(&gone).await;
    let mut watch = registry.watch(&greeter());
    view(&mut watch, |view| {
        view.snapshot
            .as_ref()
            .is_some_and(|snapshot| snapshot.len() == 1)
    })
    .await;
    faults.let_watches(NewWatches::Fail);
    faults.break_watches();
    view(&mut watch, |view| {
        matches!(view.freshness, Freshness::Stale { .. })
    })
    .await;
    gone.deregister().await.expect("removed");
    let come = registry.register(instance().with_id("other".parse().expect("an id")), TTL);
    held(&come).await;
    faults.let_watches(NewWatches::Work);
    let now = view(&mut watch, |view| view.freshness == Freshness::Live)
        .await
        .snapshot
        .expect("read");
    assert_eq!(
        now.instances()
            .map(|i| i.id.to_string())
            .collect::<Vec<_>>(),
        ["other"]
    );
}

#[tokio::test(start_paused = true)]
async fn one_watch_serves_all_who_follow_a_service_and_ends_with_the_last() {
    let (registry, faults) = faulty();
    let first = registry.watch(&greeter());
    let second = registry.clone().watch(&greeter());
    let mut third = second.clone();
    third.first().await;
    assert_eq!(faults.watches_started(), 2, "of instances and of intents");
    assert_eq!(faults.watches_running(), 2);
    drop((first, second, third));
    timeout(BOUND, faults.no_watch_is_running())
        .await
        .expect("ends with its last follower");
}
