//! Of two processes at one key, the one that was started later has it.

use futures_util::future::join_all;
use registry::{Claim, Instance, Loss, Revision, StoreError, Weight};

use crate::{
    fixture::{Fixture, hold, instance, request, soon},
    follower::Follower,
};

/// The same place claimed by two incarnations, told apart by their weight too.
fn rivals() -> (Instance, Instance) {
    let later = instance("greeter", 1).with_weight(Weight::new(2).expect("a weight"));
    (instance("greeter", 1), later)
}

pub(crate) async fn a_first_claim_takes_over_and_the_earlier_holder_is_told(
    registry: &impl Fixture,
) {
    let (store, rival) = (registry.open().await, registry.open().await);
    let (earlier, later) = rivals();
    let mut earlier_hold = hold(&*store, &earlier).await;
    let mut follower = Follower::start(&*store, "greeter").await;
    follower.until_exactly(&[&earlier]).await;
    let _later_hold = hold(&*rival, &later).await;
    follower.until_exactly(&[&later]).await;
    let loss = soon("the loss", earlier_hold.lost()).await;
    assert!(matches!(loss, Loss::Superseded(_)), "{loss:?}");
}

pub(crate) async fn a_superseded_release_leaves_the_later_instance(registry: &impl Fixture) {
    let (store, rival) = (registry.open().await, registry.open().await);
    let (earlier, later) = rivals();
    let earlier_hold = hold(&*store, &earlier).await;
    let _later_hold = hold(&*rival, &later).await;
    earlier_hold.release().await.expect("nothing is left to do");
    is_exactly(registry, &later).await;
}

pub(crate) async fn a_superseded_drop_leaves_the_later_instance(registry: &impl Fixture) {
    let (store, rival) = (registry.open().await, registry.open().await);
    let (earlier, later) = rivals();
    let earlier_hold = hold(&*store, &earlier).await;
    let mut later_hold = hold(&*rival, &later).await;
    drop(earlier_hold);
    // An update passes through whatever the drop left behind before the list is asked.
    let changed = later.with_weight(Weight::new(3).expect("a weight"));
    later_hold
        .update(changed.clone())
        .await
        .expect("it is held");
    is_exactly(registry, &changed).await;
}

pub(crate) async fn a_superseded_update_leaves_the_later_instance(registry: &impl Fixture) {
    let (store, rival) = (registry.open().await, registry.open().await);
    let (earlier, later) = rivals();
    let mut earlier_hold = hold(&*store, &earlier).await;
    let _later_hold = hold(&*rival, &later).await;
    // Whether it is refused or passed over is the backend's choice: that the hold is lost is told by `lost`.
    let _ = earlier_hold.update(earlier.clone()).await;
    is_exactly(registry, &later).await;
}

pub(crate) async fn claiming_again_is_refused_while_another_holds(registry: &impl Fixture) {
    let (store, rival) = (registry.open().await, registry.open().await);
    let (earlier, later) = rivals();
    let _later_hold = hold(&*rival, &later).await;
    match store
        .hold(request(&earlier, Claim::Again(Revision::default())))
        .await
    {
        Err(StoreError::Superseded { service, id, .. }) => {
            assert_eq!((service, id), (earlier.service, earlier.id));
        }
        Err(other) => panic!("refused for another reason: {other:?}"),
        Ok(_) => panic!("the key of a later process was taken"),
    }
    is_exactly(registry, &later).await;
}

pub(crate) async fn claiming_again_succeeds_when_the_key_is_gone(registry: &impl Fixture) {
    let (store, rival) = (registry.open().await, registry.open().await);
    let (earlier, later) = rivals();
    let later_hold = hold(&*rival, &later).await;
    later_hold.release().await.expect("it is ours");
    let again = store
        .hold(request(&earlier, Claim::Again(Revision::default())))
        .await;
    let mut hold = again.expect("nobody has the key");
    is_exactly(registry, &earlier).await;
    hold.update(earlier.clone()).await.expect("it is held");
}

pub(crate) async fn claiming_if_absent_leaves_whoever_is_there(registry: &impl Fixture) {
    let (store, rival) = (registry.open().await, registry.open().await);
    let (earlier, later) = rivals();
    let hold = hold(&*store, &earlier).await;
    match rival.hold(request(&later, Claim::IfAbsent)).await {
        Err(StoreError::Superseded { service, id, .. }) => {
            assert_eq!((service, id), (later.service.clone(), later.id.clone()));
        }
        Err(other) => panic!("refused for another reason: {other:?}"),
        Ok(_) => panic!("the key of another process was taken"),
    }
    is_exactly(registry, &earlier).await;
    hold.release().await.expect("it is ours");
    let absent = rival.hold(request(&later, Claim::IfAbsent)).await;
    let mut hold = absent.expect("nobody has the key");
    is_exactly(registry, &later).await;
    hold.update(later.clone()).await.expect("it is held");
}

pub(crate) async fn who_claims_if_absent_does_not_give_way_to_itself(registry: &impl Fixture) {
    let store = registry.open().await;
    let (ours, _) = rivals();
    let before = hold(&*store, &ours).await;
    let again = store.hold(request(&ours, Claim::IfAbsent)).await;
    let mut hold = again.expect("nobody else has the key");
    drop(before);
    // An update passes through whatever the drop left behind before the list is asked.
    let changed = ours.with_weight(Weight::new(3).expect("a weight"));
    hold.update(changed.clone()).await.expect("it is held");
    is_exactly(registry, &changed).await;
}

pub(crate) async fn of_many_who_claim_if_absent_one_has_the_key(registry: &impl Fixture) {
    let mut stores = Vec::new();
    for _ in 0..8 {
        stores.push(registry.open().await);
    }
    let rivals: Vec<_> = stores.iter().map(|_| instance("greeter", 1)).collect();
    let claims = stores.iter().zip(&rivals);
    let claims = claims.map(|(store, one)| store.hold(request(one, Claim::IfAbsent)));
    let (mut winners, mut refused) = (Vec::new(), 0);
    for (claimed, one) in join_all(claims).await.into_iter().zip(&rivals) {
        match claimed {
            Ok(hold) => winners.push((hold, one)),
            Err(StoreError::Superseded { .. }) => refused += 1,
            Err(other) => panic!("refused for another reason: {other:?}"),
        }
    }
    assert_eq!((winners.len(), refused), (1, 7));
    is_exactly(registry, winners[0].1).await;
}

async fn is_exactly(registry: &impl Fixture, wanted: &Instance) {
    let reader = registry.open().await;
    let listed = reader.list(&wanted.service).await.expect("a list");
    let listed: Vec<_> = listed.instances().map(|i| (**i).clone()).collect();
    assert_eq!(listed, std::slice::from_ref(wanted));
}
