//! A cluster that asks who we are: passwords, tokens that it forgets, and what a user may do.

use std::{fs, time::Duration};

use futures_util::StreamExt as _;
use registry::{
    RegistrationState, Registry, SnapshotWatch, Store as _, StoreError,
    backend::etcd::{EtcdError, EtcdOptions, EtcdStore, EtcdUser},
};
use tempfile::TempDir;
use testkit::{
    etcd::{Cluster, ClusterOptions},
    eventually,
};

use crate::support::{PATIENCE, hold, instance, listed, lost, request, service, soon};

const TTL: Duration = Duration::from_secs(20);

/// A cluster where `ann` may do anything below `shop/`, with further arguments of etcd's.
async fn cluster(arguments: &[&str]) -> Cluster {
    // Checking a password is made as cheap as it can be.
    let arguments = ["--bcrypt-cost=4"].iter().chain(arguments);
    let options = ClusterOptions {
        arguments: arguments.map(ToString::to_string).collect(),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start_like(1, options).await.expect("an etcd");
    let added = cluster.add_user("ann", "first", "shop/").await;
    added.expect("a user");
    let enabled = cluster.enable_authentication().await;
    enabled.expect("it asks for passwords");
    cluster
}

fn options(cluster: &Cluster) -> EtcdOptions {
    cluster.url("shop").parse().expect("a URL")
}

fn store(cluster: &Cluster, user: EtcdUser) -> EtcdStore {
    EtcdStore::new(options(cluster).with_user(user))
}

fn ann(cluster: &Cluster) -> EtcdStore {
    store(cluster, EtcdUser::new("ann", "first"))
}

fn refusal(error: &StoreError) -> &EtcdError {
    let text = registry::one_line(error);
    assert!(
        !text.contains("first") && !text.contains("second"),
        "{text}"
    );
    EtcdError::of(error).expect("an error of etcd's")
}

async fn refused(store: &EtcdStore) -> EtcdError {
    let error = store.services().await.expect_err("a refusal");
    refusal(&error).clone()
}

async fn count_is(watch: &mut SnapshotWatch, count: usize) {
    let is_it = |watch: &SnapshotWatch| {
        let snapshot = watch.view().snapshot;
        snapshot.is_some_and(|all| all.len() == count)
    };
    let reached = async {
        while !is_it(watch) {
            watch.changed().await;
        }
    };
    soon("that many instances", reached).await;
}

#[tokio::test]
async fn a_user_who_may_use_one_prefix_registers_lists_and_watches_there_and_nowhere_else() {
    let cluster = cluster(&[]).await;
    let (owner, caller) = (Registry::new(ann(&cluster)), Registry::new(ann(&cluster)));
    let registration = owner.register(instance("greeter", 1), TTL);
    let mut watch = caller.watch(&service("greeter"));
    count_is(&mut watch, 1).await;
    assert_eq!(listed(&ann(&cluster), "greeter").await, 1);
    assert_eq!(ann(&cluster).services().await.expect("a list").len(), 1);
    registration.deregister().await.expect("it is ours");
    count_is(&mut watch, 0).await;

    let elsewhere = options(&cluster).with_namespace("bank").expect("a name");
    let elsewhere = EtcdStore::new(elsewhere.with_user(EtcdUser::new("ann", "first")));
    let denied = |error: &EtcdError, to: &str| match error {
        EtcdError::PermissionDenied { user, key } => {
            assert_eq!((user.as_deref(), key.as_deref()), (Some("ann"), Some(to)));
        }
        other => panic!("{other}"),
    };
    denied(&refused(&elsewhere).await, "bank/");
    let greeter = instance("greeter", 1);
    let to_one = "bank/greeter/10.0.0.7:1";
    let unheld = elsewhere.hold(request(&greeter, 20)).await.err();
    denied(refusal(&unheld.expect("a refusal")), to_one);
    let greeter = service("greeter");
    let unwatched = elsewhere.watch(&greeter).next().await.expect("an item");
    denied(refusal(&unwatched.expect_err("a refusal")), "bank/greeter/");
    let unread = elsewhere.read_document(&greeter).await;
    denied(
        refusal(&unread.expect_err("a refusal")),
        "bank/_service_config/greeter",
    );
}

#[tokio::test]
async fn of_many_who_register_at_once_nobody_is_let_in_who_may_not() {
    let cluster = cluster(&[]).await;
    let options = options(&cluster).with_namespace("bank").expect("a name");
    let nobody = EtcdStore::new(options.clone());
    let ann = EtcdStore::new(options.with_user(EtcdUser::new("ann", "first")));
    let all = (1..=20).flat_map(|port| {
        let request = request(&instance("greeter", port), 20);
        [nobody.hold(request.clone()), ann.hold(request)]
    });
    let held = futures_util::future::join_all(all).await;
    for (number, held) in held.into_iter().enumerate() {
        let error = held.err().expect("a refusal");
        let is_told = match (number % 2, refusal(&error)) {
            (0, EtcdError::NoUser) => true,
            (1, EtcdError::PermissionDenied { key, .. }) => key.is_some(),
            _ => false,
        };
        assert!(is_told, "{}", registry::one_line(&error));
    }
    assert!(cluster.keys("bank/").await.expect("keys").is_empty());
}

#[tokio::test]
async fn a_user_in_the_url_is_let_in_and_nobody_is_told_that_somebody_is_asked_for() {
    let cluster = cluster(&[]).await;
    let url = cluster.url("shop").replace("://", "://ann:%66irst@");
    let store: EtcdOptions = url.parse().expect("a URL");
    let store = EtcdStore::new(store);
    store.services().await.expect("a list");
    assert!(store.url().contains("://ann@"), "{}", store.url());

    let nobody = EtcdStore::new(options(&cluster));
    let told = refused(&nobody).await;
    assert!(matches!(told, EtcdError::NoUser), "{told}");
}

#[tokio::test]
async fn a_wrong_password_is_told_and_etcd_is_not_asked_in_vain() {
    let cluster = cluster(&[]).await;
    let before = cluster.calls("Authenticate").await.expect("a count");
    let wrong = Registry::new(store(&cluster, EtcdUser::new("ann", "second")));
    let registrations: Vec<_> = (1..=20)
        .map(|port| wrong.register(instance("greeter", port), TTL))
        .collect();
    for registration in &registrations {
        let mut states = registration.states();
        let tried = states
            .wait_for(|state| matches!(state, RegistrationState::Retrying { attempts: 4.., .. }));
        soon("four tries", tried).await.expect("it goes on");
    }
    let error = wrong.services().await.expect_err("a wrong password");
    let told = refusal(&error);
    assert!(
        matches!(told, EtcdError::WrongPassword { user } if user == "ann"),
        "{told}"
    );
    let asked = cluster.calls("Authenticate").await.expect("a count") - before;
    assert!(
        (1..10).contains(&asked),
        "{asked} for more than eighty tries"
    );
}

#[tokio::test]
async fn a_password_that_changes_under_way_is_taken_up_from_its_file() {
    let cluster = cluster(&[]).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    let absent = store(&cluster, EtcdUser::from_file("ann", &file));
    let told = refused(&absent).await.to_string();
    assert!(told.contains("password: No such file"), "{told}");
    fs::write(&file, "first\n").expect("it is written");
    let registry = Registry::new(store(&cluster, EtcdUser::from_file("ann", &file)));
    let held = registry.register(instance("greeter", 1), TTL);
    let mut watch = registry.watch(&service("greeter"));
    count_is(&mut watch, 1).await;

    // etcd forgets its tokens, and does not take the old password any more.
    cluster
        .change_password("ann", "second")
        .await
        .expect("it is changed");
    let second = registry.register(instance("greeter", 2), TTL);
    let mut states = second.states();
    let failed =
        states.wait_for(|state| matches!(state, RegistrationState::Retrying { attempts: 3.., .. }));
    soon("a refusal", failed).await.expect("it goes on");
    assert!(held.state().is_held(), "{:?}", held.state());

    fs::write(&file, "second\n").expect("it is written");
    count_is(&mut watch, 2).await;
    held.deregister().await.expect("it is ours");
    count_is(&mut watch, 1).await;
}

/// etcd asks nobody who keeps a lease alive.
#[tokio::test]
async fn what_is_registered_stays_so_while_the_password_is_wrong_and_members_restart() {
    let mut cluster = cluster(&[]).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    fs::write(&file, "first").expect("it is written");
    let registry = Registry::new(store(&cluster, EtcdUser::from_file("ann", &file)));
    // etcd may take some seconds to start.
    let ttl = Duration::from_secs(10);
    let registration = registry.register(instance("greeter", 1), ttl);
    let mut states = registration.states();
    soon("a hold", states.wait_for(RegistrationState::is_held))
        .await
        .expect("it goes on");
    states.mark_unchanged();
    let changed = cluster.change_password("ann", "second").await;
    changed.expect("it is changed");
    // From now on there is no token.
    let error = registry.services().await.expect_err("a wrong password");
    let told = refusal(&error);
    assert!(matches!(told, EtcdError::WrongPassword { .. }), "{told}");
    cluster.restart(0).await.expect("it is started");
    let lost = tokio::time::timeout(ttl + Duration::from_secs(2), states.changed()).await;
    assert!(lost.is_err(), "{:?}", registration.state());
    let keys = cluster.keys("shop/").await.expect("keys");
    assert!(keys.contains_key("shop/greeter/10.0.0.7:1"), "{keys:?}");
    fs::write(&file, "second").expect("it is written");
    registration.deregister().await.expect("it is ours");
}

/// Lists until that takes another token: using one may make it last, so that the waits between two uses grow.
async fn forgotten(cluster: &Cluster, store: &EtcdStore) {
    let before = cluster.calls("Authenticate").await.expect("a count");
    let forgotten = async {
        let mut pause = Duration::from_millis(200);
        loop {
            store.services().await.expect("a list");
            if cluster.calls("Authenticate").await.expect("a count") > before {
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    };
    soon("another token", forgotten).await;
}

/// etcd's argument for tokens that say by themselves how long they are good.
fn signed_tokens(directory: &TempDir, further: &str) -> String {
    let key = directory.path().join("key");
    fs::write(&key, "what tokens are signed with").expect("it is written");
    let key = key.display();
    format!("--auth-token=jwt,sign-method=HS256,priv-key={key}{further}")
}

#[tokio::test]
async fn tokens_that_expire_are_fetched_again_and_nobody_notices() {
    let directory = tempfile::tempdir().expect("a directory");
    let signed = signed_tokens(&directory, ",ttl=1s");
    for kind in ["--auth-token-ttl=1", &signed] {
        let cluster = cluster(&[kind]).await;
        let store = ann(&cluster);
        let mut hold = hold(&store, &instance("greeter", 1), 20).await;
        forgotten(&cluster, &store).await;
        let changed = instance("greeter", 1).with_version("2");
        hold.update(changed).await.expect("it is ours");
        forgotten(&cluster, &store).await;
        // Its key is watched on a stream that was let in with a token which is not good any more.
        let mut other = self::hold(&store, &instance("greeter", 2), 20).await;
        let deleted = cluster.etcdctl(&["del", "--prefix", "shop/greeter/10.0.0.7:2"]);
        deleted.await.expect("it is deleted");
        lost(&mut other).await;
        forgotten(&cluster, &store).await;
        hold.release().await.expect("it is ours");
        assert_eq!(listed(&store, "greeter").await, 0);
    }
}

/// What runs for long looks for itself now and then, and had a good token when it began.
#[tokio::test]
async fn a_watch_outlives_the_token_that_it_was_begun_with() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = cluster(&[&signed_tokens(&directory, ",ttl=1s")]).await;
    let quiet = Duration::from_millis(200);
    let own = options(&cluster)
        .with_quiet(quiet)
        .with_user(EtcdUser::new("ann", "first"));
    let shared = own.clone().with_shared_watch().expect("a namespace");
    for (name, options) in [("own", own), ("shared", shared)] {
        let store = EtcdStore::new(options);
        let mut watch = store.watch(&service("greeter"));
        let first = soon("a list", watch.next()).await.expect("an item");
        first.expect("a list");
        let before = cluster.calls("Authenticate").await.expect("a count");
        let forgotten = eventually(PATIENCE, "three more tokens", async || {
            cluster.calls("Authenticate").await.expect("a count") >= before + 3
        });
        tokio::select! {
            item = watch.next() => panic!("it has ended: {item:?}"),
            () = forgotten => {}
        }
        let key = format!("shop/greeter/{name}");
        let put = ["put", &key, r#"{"Addr":"10.0.0.1:1"}"#];
        cluster.etcdctl(&put).await.expect("it is put");
        let change = soon("the instance", watch.next()).await.expect("an item");
        assert_eq!(change.expect("a change").updates.len(), 1);
        // Another service's is listed where the watch is, with a token that has expired long ago.
        let mut other = store.watch(&service("bookkeeper"));
        let first = soon("a list", other.next()).await.expect("an item");
        first.expect("a list");
    }
}

#[tokio::test]
async fn tokens_that_are_older_than_a_permission_are_fetched_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("key");
    fs::write(&key, "what tokens are signed with").expect("it is written");
    let key = key.display();
    let cluster = cluster(&[&format!(
        "--auth-token=jwt,sign-method=HS256,priv-key={key}"
    )])
    .await;
    let store = ann(&cluster);
    let hold = hold(&store, &instance("greeter", 1), 20).await;
    let added = cluster.add_user("bob", "third", "bank/").await;
    added.expect("another user");
    hold.release().await.expect("it is ours");
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait_for_a_token() {
    let cluster = cluster(&[]).await;
    let before = cluster.calls("Authenticate").await.expect("a count");
    let registry = Registry::new(ann(&cluster));
    let registrations: Vec<_> = (1..=50)
        .map(|port| registry.register(instance("greeter", port), TTL))
        .collect();
    let mut watch = registry.watch(&service("greeter"));
    count_is(&mut watch, registrations.len()).await;
    let asked = cluster.calls("Authenticate").await.expect("a count") - before;
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn a_member_that_was_restarted_knows_no_token_and_gives_another() {
    let mut cluster = cluster(&[]).await;
    let registry = Registry::new(ann(&cluster));
    let held = registry.register(instance("greeter", 1), TTL);
    let mut watch = registry.watch(&service("greeter"));
    count_is(&mut watch, 1).await;
    let mut states = held.states();
    soon("a hold", states.wait_for(RegistrationState::is_held))
        .await
        .expect("it goes on");
    states.mark_unchanged();
    for port in 2..4 {
        cluster.restart(0).await.expect("it is started");
        let newcomer = registry.register(instance("greeter", port), TTL);
        count_is(&mut watch, 2).await;
        newcomer.deregister().await.expect("it is ours");
        count_is(&mut watch, 1).await;
    }
    assert!(
        !states.has_changed().expect("it goes on"),
        "{:?}",
        held.state()
    );
}

#[tokio::test]
async fn authentication_that_is_enabled_under_way_finds_the_user_who_was_configured() {
    let mut cluster = Cluster::start_one().await.expect("an etcd");
    cluster
        .add_user("ann", "first", "shop/")
        .await
        .expect("a user");
    let store = ann(&cluster);
    let mut held = hold(&store, &instance("greeter", 1), 5).await;
    let enabled = cluster.enable_authentication().await;
    enabled.expect("it asks for passwords");
    assert_eq!(listed(&store, "greeter").await, 1);
    let changed = instance("greeter", 1).with_version("2");
    held.update(changed).await.expect("it is ours");
    // An operator takes it away.
    let deleted = cluster.etcdctl(&["del", "--prefix", "shop/"]).await;
    deleted.expect("it is deleted");
    lost(&mut held).await;
    eventually(PATIENCE, "that it is gone", async || {
        listed(&store, "greeter").await == 0
    })
    .await;
}

#[tokio::test]
async fn a_key_that_may_be_read_no_more_does_not_keep_the_others_from_being_watched() {
    let mut cluster = cluster(&[]).await;
    let registry = Registry::new(ann(&cluster));
    let both = ["open", "shut"].map(|name| registry.register(instance(name, 1), TTL));
    for registration in &both {
        let mut states = registration.states();
        let held = states.wait_for(RegistrationState::is_held);
        soon("a hold", held).await.expect("it lives");
    }
    for command in [
        "role grant-permission --prefix=true ann readwrite shop/open/",
        "role revoke-permission --prefix=true ann shop/",
    ] {
        let command: Vec<_> = command.split(' ').collect();
        cluster.etcdctl_text(&command).await.expect("it is done");
    }
    // A watch that was begun before goes on whatever has become of its permission.
    for _ in 0..2 {
        let mut states = both[0].states();
        states.borrow_and_update();
        cluster
            .etcdctl_text(&["del", "shop/open/10.0.0.7:1"])
            .await
            .expect("it is deleted");
        let there = async || {
            let found = cluster.etcdctl(&["get", "shop/open/10.0.0.7:1"]).await;
            found.is_ok_and(|found| found["count"] == 1)
        };
        eventually(PATIENCE, "it is back", there).await;
        cluster.restart(0).await.expect("it is started");
    }
    let retrying = |state: &RegistrationState| match state {
        RegistrationState::Retrying { cause, .. } => cause.contains("permission"),
        _ => false,
    };
    let mut states = both[1].states();
    soon("a refusal", states.wait_for(retrying))
        .await
        .expect("it goes on");
}
