//! What callers of `GreetUser` notice when greeters are killed under them, or hang: nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use testkit::{Signal, etcd::Cluster, eventually, fleet::Fleet};
use tokio::task::JoinSet;
use tonic::Status;

use crate::running::{BOUND, Scene, greet};

/// How many users are greeted at a time, each by a caller of its own.
const CALLERS: usize = 8;
/// How many greeters there are.
const GREETERS: usize = 3;
/// How many of them are killed, one after another; another one is started for each.
const KILLS: usize = 10;
/// How many greetings there are at least between two kills.
const GREETINGS: usize = 100;

#[tokio::test]
async fn no_call_fails_while_greeters_of_a_file_registry_are_killed_and_replaced() {
    greeters_are_killed_and_replaced(&Scene::new()).await;
}

/// Those that are killed stay listed there until their leases end.
#[tokio::test]
async fn no_call_fails_while_greeters_of_an_etcd_are_killed_and_replaced() {
    let cluster = Cluster::start_one().await.expect("a cluster");
    greeters_are_killed_and_replaced(&Scene::at(cluster.url("killed"))).await;
}

async fn greeters_are_killed_and_replaced(scene: &Scene) {
    let mut greeters = Fleet::new(&scene.url).expect("the binaries");
    greeters.add_many(GREETERS).await.expect("they start");
    let _service = scene.user_service("").await;
    scene.create("ann", "").await.expect("created");
    let load = Load::start(scene);
    for address in greeters.addresses() {
        load.is_answered_by(&address).await;
    }
    for _ in 0..KILLS {
        let eldest = greeters.addresses().remove(0);
        let before = load.greetings();
        greeters.kill(&eldest).await.expect("it ran");
        let another = greeters.add().await.expect("it starts");
        load.is_answered_by(&another).await;
        load.reaches(before + GREETINGS).await;
    }
    load.ends_without_a_failure().await;
}

/// Every other greeting is asked of the one that hangs, until another one is asked too.
#[tokio::test]
async fn no_call_fails_while_a_greeter_hangs() {
    let scene = Scene::new();
    let mut greeters = Fleet::new(&scene.url).expect("the binaries");
    let [hangs, lives] = &greeters.add_many(2).await.expect("they start")[..] else {
        panic!("two were started")
    };
    let _service = scene.user_service("").await;
    scene.create("ann", "").await.expect("created");
    for address in [hangs, lives] {
        is_greeted_by(&scene, address).await;
    }
    greeters.signal(hangs, Signal::SIGSTOP).expect("it runs");
    for _ in 0..4 {
        let greeting = scene.greet("ann").await.expect("greeted");
        assert!(greeting.ends_with(lives), "{greeting}");
    }
}

async fn is_greeted_by(scene: &Scene, greeter: &str) {
    let what = format!("a greeting from {greeter}");
    eventually(BOUND, &what, async || {
        let greeting = scene.greet("ann").await.expect("greeted");
        greeting.ends_with(greeter)
    })
    .await;
}

/// Callers who have a user greeted again and again, each as soon as it was answered.
struct Load {
    callers: JoinSet<Result<(), Status>>,
    /// Greetings, by the address of the greeter.
    greetings: Arc<Mutex<BTreeMap<String, usize>>>,
    enough: Arc<AtomicBool>,
}

impl Load {
    fn start(scene: &Scene) -> Self {
        let mut load = Self {
            callers: JoinSet::new(),
            greetings: Arc::default(),
            enough: Arc::default(),
        };
        for _ in 0..CALLERS {
            let users = scene.users.clone();
            let (greetings, enough) = (Arc::clone(&load.greetings), Arc::clone(&load.enough));
            load.callers.spawn(async move {
                while !enough.load(Ordering::Relaxed) {
                    let message = greet(users.clone(), "ann").await?;
                    let (_, greeter) = message.rsplit_once(' ').expect("it ends with an address");
                    let mut greetings = greetings.lock().expect("nobody panicked");
                    *greetings.entry(greeter.to_owned()).or_default() += 1;
                }
                Ok(())
            });
        }
        load
    }

    /// How many there were.
    fn greetings(&self) -> usize {
        self.greetings
            .lock()
            .expect("nobody panicked")
            .values()
            .sum()
    }

    async fn is_answered_by(&self, greeter: &str) {
        let what = format!("a greeting from {greeter}");
        eventually(BOUND, &what, async || {
            let greetings = self.greetings.lock().expect("nobody panicked");
            greetings.contains_key(greeter)
        })
        .await;
    }

    async fn reaches(&self, count: usize) {
        let what = format!("{count} greetings");
        eventually(BOUND, &what, async || self.greetings() >= count).await;
    }

    async fn ends_without_a_failure(self) {
        self.enough.store(true, Ordering::Relaxed);
        let ended = self.callers.join_all().await;
        let failed: Vec<_> = ended.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}
