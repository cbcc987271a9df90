//! Intents in etcd: their keys, and what becomes of them when members die, instances are lost and everything is wiped.

use std::time::Duration;

use futures_util::StreamExt as _;
use registry::{
    Freshness, Instance, InstanceId, Intent, Registration, RegistrationState, Registry,
    SnapshotWatch, Status, Store as _, View, Weight, backend::etcd::EtcdStore,
};
use testkit::{etcd::Cluster, eventually};
use tokio::time::Instant;

use crate::support::{
    PATIENCE, cluster, etcdctl, instance, revoke_every_lease, service, shared, soon, store,
};

const TTL: Duration = Duration::from_secs(2);

fn id(id: &str) -> InstanceId {
    InstanceId::new(id).expect("an id")
}

async fn set(registry: &Registry, instance: &Instance, intent: impl Into<Intent>) {
    let Instance { service, id, .. } = instance;
    let set = registry.set_intent(service, id, intent.into()).await;
    set.expect("it is written");
}

async fn clear(registry: &Registry, instance: &Instance) {
    let Instance { service, id, .. } = instance;
    let cleared = registry.clear_intent(service, id).await;
    cleared.expect("it is deleted");
}

async fn until(watch: &mut SnapshotWatch, is: impl Fn(&View) -> bool) {
    let seen = async {
        while !is(&watch.view()) {
            watch.changed().await;
        }
    };
    soon("what is waited for", seen).await;
}

/// Waits until an instance is seen in this status; it must never be seen in that one meanwhile.
async fn until_status(
    watch: &mut SnapshotWatch,
    instance: &Instance,
    wanted: Status,
    never: Option<Status>,
) {
    until(watch, |view| {
        let seen = view.snapshot.as_ref().and_then(|all| all.get(&instance.id));
        let status = seen.map(|instance| instance.status);
        assert!(
            status.is_none() || status != never,
            "it is seen as {never:?}"
        );
        status == Some(wanted) && view.freshness == Freshness::Live
    })
    .await;
}

async fn held(registration: &Registration) {
    let mut states = registration.states();
    let held = states.wait_for(|state| matches!(state, RegistrationState::Held { .. }));
    soon("a hold", held).await.expect("it goes on");
}

/// Waits until the instance was held anew.
async fn held_since(registration: &Registration, before: Instant) {
    let mut states = registration.states();
    let held = states.wait_for(
        |state| matches!(state, RegistrationState::Held { since, .. } if *since > before),
    );
    soon("a hold", held).await.expect("it goes on");
}

async fn lost(registration: &Registration) {
    let mut states = registration.states();
    let lost = states.wait_for(|state| !state.is_held());
    soon("a loss", lost).await.expect("it goes on");
}

/// Looks that an instance is never seen in a status until something has come about.
async fn until_while(
    watch: &mut SnapshotWatch,
    instance: &Instance,
    never: Option<Status>,
    comes: impl Future,
) {
    let mut seen = watch.clone();
    tokio::select! {
        _ = comes => {}
        () = until(&mut seen, |view| {
            let seen = view.snapshot.as_ref().and_then(|all| all.get(&instance.id));
            let status = seen.map(|instance| instance.status);
            assert!(status.is_none() || status != never, "it is seen as {never:?}");
            false
        }) => {}
    }
}

#[tokio::test]
async fn an_intent_is_a_key_below_the_namespace_that_has_no_lease_and_that_others_may_write() {
    let cluster = shared().await;
    let store = EtcdStore::new(cluster.url("intents/eu").parse().expect("a URL"));
    let greeter = service("shop/greeter");
    let key = "intents/eu/_intent/shop/greeter/10.0.0.7:1";
    let intent = Intent::from(Status::Draining);
    let written = store.set_intent(&greeter, &id("10.0.0.7:1"), intent).await;
    written.expect("it is written");
    let found = etcdctl(&cluster, &["get", "--prefix", "intents/"]).await;
    let value = r#"{"v":1,"status":"draining"}"#;
    assert_eq!(found.trim(), format!("{key}\n{value}"));
    let found = etcdctl(&cluster, &["get", key, "--write-out=json"]).await;
    assert!(!found.contains("lease"), "{found}");
    let mut watch = store.watch_intents(&greeter);
    let mut next = async || {
        let next = soon("an item", watch.next()).await.expect("an item");
        next.expect("no error")
    };
    assert_eq!(next().await.len(), 1);
    let by_hand = r#"{"v": 1, "weight": 3}"#;
    etcdctl(&cluster, &["put", key, by_hand]).await;
    let weight = Weight::new(3).expect("a weight");
    assert_eq!(next().await.get(&id("10.0.0.7:1")), Some(&weight.into()));
    // What is beside them is something else.
    for beside in [
        "intents/eu/_intent/shop/greeters/a",
        "intents/eu/_intent/shop/greeter/a/b",
    ] {
        etcdctl(&cluster, &["put", beside, by_hand]).await;
    }
    etcdctl(&cluster, &["del", key]).await;
    assert!(next().await.is_empty());
    assert_eq!(store.undecodable(), 0);
}

#[tokio::test]
async fn an_instance_that_is_drained_stays_so_through_updates_losses_and_restarts() {
    let cluster = shared().await;
    let (owner, operator, caller) = (registry(&cluster), registry(&cluster), registry(&cluster));
    let greeter = instance("drained", 1);
    let registration = owner.register(greeter.clone(), TTL);
    held(&registration).await;
    let mut watch = caller.watch(&greeter.service);
    until_status(&mut watch, &greeter, Status::Serving, None).await;
    set(&operator, &greeter, Status::Draining).await;
    until_status(&mut watch, &greeter, Status::Draining, None).await;
    let never = Some(Status::Serving);

    let heavy = Weight::new(7).expect("a weight");
    let update = |i: Instance| i.with_weight(heavy).with_status(Status::Serving);
    registration.update(update).await;
    until(&mut watch, |view| {
        let seen = view.snapshot.as_ref().and_then(|all| all.get(&greeter.id));
        let seen = seen.expect("it is never absent");
        assert_eq!(seen.status, Status::Draining, "an update undoes nothing");
        seen.weight == heavy
    })
    .await;

    let key = format!("drained/{}", greeter.id);
    etcdctl(&cluster, &["del", &key]).await;
    lost(&registration).await;
    held(&registration).await;
    until_status(&mut watch, &greeter, Status::Draining, never).await;
    let again = etcdctl(&cluster, &["get", &key]).await;
    assert!(
        again.contains("10.0.0.7:1") && !again.contains("draining"),
        "{again}"
    );

    registration.deregister().await.expect("it is ours");
    until(&mut watch, |view| {
        view.snapshot
            .as_ref()
            .is_some_and(registry::Snapshot::is_empty)
    })
    .await;
    let later = instance("drained", 1);
    let registration = owner.register(later.clone(), TTL);
    held(&registration).await;
    until_status(&mut watch, &later, Status::Draining, never).await;
    // Nor does a caller that has just started ever see it otherwise.
    let mut started = registry(&cluster).watch(&greeter.service);
    until_status(&mut started, &later, Status::Draining, never).await;
    let listed = operator.list(&later.service).await.expect("a list");
    let listed = listed.get(&later.id).expect("it is registered");
    assert_eq!(
        (listed.status, listed.own_status()),
        (Status::Draining, Status::Serving)
    );

    clear(&operator, &later).await;
    until_status(&mut watch, &later, Status::Serving, None).await;
    until_status(&mut started, &later, Status::Serving, None).await;
}

#[tokio::test]
async fn intents_are_followed_when_the_members_die_one_after_another() {
    let mut cluster = cluster(3).await;
    let (owner, operator, caller) = (registry(&cluster), registry(&cluster), registry(&cluster));
    let greeter = instance("greeter", 1);
    let _registration = owner.register(greeter.clone(), Duration::from_mins(1));
    let mut watch = caller.watch(&greeter.service);
    until_status(&mut watch, &greeter, Status::Serving, None).await;
    for member in 0..3 {
        cluster.kill(member).await.expect("it is killed");
        for status in [Status::Draining, Status::NotServing] {
            // A new leader may be needed first.
            eventually(PATIENCE, "a majority takes it", async || {
                let Instance { service, id, .. } = &greeter;
                let set = operator.set_intent(service, id, status.into()).await;
                set.is_ok()
            })
            .await;
            until_status(
                &mut watch,
                &greeter,
                status,
                Some(Status::Serving).filter(|_| member > 0),
            )
            .await;
        }
        cluster.restart(member).await.expect("it is started");
    }
}

#[tokio::test]
async fn an_instance_that_is_drained_stays_so_when_the_cluster_is_wiped() {
    let mut cluster = cluster(3).await;
    let (owner, operator, caller) = (registry(&cluster), registry(&cluster), registry(&cluster));
    let (greeter, other) = (instance("greeter", 1), instance("greeter", 2));
    let registration = owner.register(greeter.clone(), TTL);
    let beside = owner.register(other.clone(), TTL);
    let mut watch = caller.watch(&greeter.service);
    until_status(&mut watch, &greeter, Status::Serving, None).await;
    until_status(&mut watch, &other, Status::Serving, None).await;
    let draining = Intent::from(Status::Draining).with_weight(Weight::new(3).expect("a weight"));
    set(&operator, &greeter, draining).await;
    until_status(&mut watch, &greeter, Status::Draining, None).await;
    let never = Some(Status::Serving);
    let before = Instant::now();
    let wiped = async {
        cluster.wipe().await.expect("it is wiped");
        held_since(&registration, before).await;
        held_since(&beside, before).await;
    };
    until_while(&mut watch, &greeter, never, wiped).await;
    until_status(&mut watch, &greeter, Status::Draining, never).await;

    // The store knows nothing of it, and its owner says so beside its own words.
    let found = etcdctl(&cluster, &["get", "--prefix", ""]).await;
    assert!(!found.contains("_intent/"), "{found}");
    let carried = r#"\"asked\":{\"status\":\"draining\",\"weight\":3}"#;
    assert_eq!(found.matches("asked").count(), 1, "{found}");
    assert!(found.contains(carried), "{found}");
    let listed = registry(&cluster).list(&greeter.service).await;
    let listed = listed.expect("a list");
    let drained = listed.get(&greeter.id).expect("it is registered");
    assert_eq!(
        (drained.status, drained.weight.get()),
        (Status::Draining, 3)
    );
    assert_eq!(
        (drained.own_status(), drained.own_weight().get()),
        (Status::Serving, 1)
    );
    let beside = listed.get(&other.id).expect("it is registered");
    assert_eq!((beside.status, beside.intent()), (Status::Serving, None));
    let mut started = registry(&cluster).watch(&greeter.service);
    until_status(&mut started, &greeter, Status::Draining, never).await;

    // So it stays when its key is lost once more.
    let before = Instant::now();
    let revoked = async {
        revoke_every_lease(&cluster).await;
        held_since(&registration, before).await;
    };
    until_while(&mut watch, &greeter, never, revoked).await;
    until_status(&mut watch, &greeter, Status::Draining, never).await;

    clear(&operator, &greeter).await;
    until_status(&mut watch, &greeter, Status::Serving, None).await;
    until_status(&mut started, &greeter, Status::Serving, None).await;
    eventually(PATIENCE, "the owner to forget it", async || {
        let found = etcdctl(&cluster, &["get", "--prefix", "greeter/"]).await;
        found.contains("10.0.0.7:1") && !found.contains("asked")
    })
    .await;
    let key = format!("_intent/greeter/{}", greeter.id);
    let nothing = etcdctl(&cluster, &["get", "--print-value-only", &key]).await;
    assert_eq!(nothing.trim(), r#"{"v":1}"#);
    let intents = operator.intents(&greeter.service).await;
    assert!(intents.expect("an answer").is_empty());
    set(&operator, &greeter, Status::NotServing).await;
    until_status(&mut watch, &greeter, Status::NotServing, None).await;
    clear(&operator, &greeter).await;
    until_status(&mut watch, &greeter, Status::Serving, None).await;
    let nothing = etcdctl(&cluster, &["get", &key]).await;
    assert_eq!(nothing, "");
}

#[tokio::test]
async fn a_thousand_intents_and_more_are_read() {
    const INTENTS: usize = 2_500;
    let cluster = shared().await;
    let client = etcd_client::Client::connect(cluster.endpoints(), None).await;
    let client = client.expect("a client");
    let puts = (0..INTENTS).map(|number| {
        let mut client = client.clone();
        Box::pin(async move {
            let key = format!("_intent/many/i-{number}");
            client.put(key, r#"{"v":1,"weight":2}"#, None).await
        })
    });
    for put in futures_util::future::join_all(puts).await {
        put.expect("it is written");
    }
    let registry = registry(&cluster);
    let many = service("many");
    let all = registry.intents(&many).await.expect("an answer");
    assert_eq!(all.len(), INTENTS);
    let cleared = registry.clear_intent(&many, &id("i-7")).await;
    cleared.expect("it is deleted");
    let all = registry.intents(&many).await.expect("an answer");
    assert_eq!((all.len(), all.get(&id("i-7"))), (INTENTS - 1, None));
}

fn registry(cluster: &Cluster) -> Registry {
    Registry::new(store(cluster))
}
