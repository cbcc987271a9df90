//! Ten thousand instances of a hundred services in one process, some of which flap each second, and another process that
//! follows all of them.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash, Hasher as _},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use registry::{Address, Instance, Registration, Registry, ServiceName, Snapshot, SnapshotWatch};
use serde_json::{Value, json};
use testkit::{etcd::Cluster, process::Process, until};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    outcome::Seen,
    scene::{NAMESPACE, Pace},
};

const SERVICES: usize = 100;
const OF_EACH: usize = 100;
/// How many instances leave each second; they are back a second later.
const FLAPPING: usize = 100;
const TTL: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_mins(1);
/// How long the follower may take until it is right.
const RIGHT_WITHIN: Duration = Duration::from_secs(2);
/// What the follower may take more at the end than when it had seen everything for the first time.
const GROWTH: f64 = 1.15;

pub(crate) async fn flap(pace: Pace) -> Result<Seen> {
    let cluster = Cluster::start(3).await?;
    let url = cluster.url(NAMESPACE);
    let registry = registry::connect(&url)?;
    let began = Instant::now();
    let mut all = register_all(&registry).await?;
    let registered_in = began.elapsed();
    let leases = cluster.etcdctl_text(&["lease", "list"]).await?;
    let leases = leases.lines().skip(1).count();

    let follower = Follower::start(&url)?;
    follower
        .until_it_sees(&digest_of(all.iter().flatten()), PATIENCE)
        .await?;
    // What it has allocated once stays with it: let it have seen some change first.
    flap_for(&registry, &mut all, pace.pick(10, 3)).await?;
    let before = follower.memory().await?;
    flap_for(&registry, &mut all, pace.pick(60, 8)).await?;

    let since = Instant::now();
    follower
        .until_it_sees(&digest_of(all.iter().flatten()), PATIENCE)
        .await?;
    let took = since.elapsed();
    let after = follower.memory().await?;
    ensure!(
        after < before * GROWTH,
        "the follower had {before:.1} MB and has {after:.1} MB"
    );
    Ok(Seen {
        right_after: Some((took, RIGHT_WITHIN)),
        remark: format!(
            "10,000 registered in {:.1} s under {leases} leases; the follower had {before:.1} MB, and {after:.1} MB at the end",
            registered_in.as_secs_f64()
        ),
        ..Seen::default()
    })
}

fn instance(service: usize, number: usize) -> Result<Instance> {
    let name = ServiceName::new(&format!("service-{service}"))?;
    let address = Address::new(&format!("10.{}.{}.1:{}", service, number, 50_051))?;
    Ok(Instance::new(name, address))
}

async fn register_all(registry: &Registry) -> Result<Vec<Option<Registration>>> {
    let mut all = Vec::new();
    for place in 0..SERVICES * OF_EACH {
        all.push(Some(register(registry, place)?));
    }
    join_all(all.iter().flatten().map(is_held)).await;
    Ok(all)
}

fn register(registry: &Registry, place: usize) -> Result<Registration> {
    let instance = instance(place / OF_EACH, place % OF_EACH)?;
    Ok(registry.register(instance, TTL))
}

async fn is_held(registration: &Registration) {
    let mut states = registration.states();
    // It ends only with its registration.
    let _ = states.wait_for(registry::RegistrationState::is_held).await;
}

/// Each second some leave, and those that left a second before are back.
async fn flap_for(
    registry: &Registry,
    all: &mut [Option<Registration>],
    seconds: u32,
) -> Result<()> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away: Vec<usize> = Vec::new();
    for _ in 0..seconds {
        ticks.tick().await;
        for place in away.drain(..) {
            all[place] = Some(register(registry, place)?);
        }
        let mut leaving = Vec::new();
        while leaving.len() < FLAPPING {
            let place = fastrand::usize(..all.len());
            if let Some(registration) = all[place].take() {
                leaving.push(registration.deregister());
                away.push(place);
            }
        }
        for left in join_all(leaving).await {
            left?;
        }
    }
    join_all(all.iter().flatten().map(is_held)).await;
    Ok(())
}

/// What all instances come to: their number, and a sum of what each is.
fn digest_of<'a>(all: impl Iterator<Item = &'a Registration>) -> Value {
    digest(all.map(|registration| {
        let instance = registration.instance();
        (instance.service.to_string(), instance.id.to_string())
    }))
}

fn digest(all: impl Iterator<Item = (String, String)>) -> Value {
    let (mut count, mut sum) = (0_u64, 0_u64);
    for one in all {
        let mut hasher = DefaultHasher::new();
        one.hash(&mut hasher);
        count += 1;
        sum = sum.wrapping_add(hasher.finish());
    }
    json!([count, sum])
}

/// Another process that follows the services.
struct Follower(Process);

impl Follower {
    fn start(url: &str) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--follow", url]);
        Ok(Self(Process::spawn("a follower", command)?))
    }

    /// What it printed last.
    fn last(&self) -> Result<Value> {
        let lines = self.0.output();
        let last = lines
            .iter()
            .rev()
            .find(|line| !line.stderr)
            .context("it says nothing yet")?;
        serde_json::from_str(&last.text).with_context(|| format!("it says {}", last.text))
    }

    async fn until_it_sees(&self, expected: &Value, bound: Duration) -> Result<()> {
        until(bound, "the follower to see every instance", async || {
            let seen = self.last()?;
            ensure!(
                seen["digest"] == *expected,
                "it sees {seen}, expected {expected}"
            );
            Ok(())
        })
        .await
    }

    /// How many megabytes it has, by what it says next.
    async fn memory(&self) -> Result<f64> {
        sleep(REPORT * 3).await;
        let memory = self.last()?["megabytes"].as_f64();
        memory.context("it does not say how much memory it has")
    }
}

/// How often the follower says what it sees.
const REPORT: Duration = Duration::from_millis(100);

/// Follows all services of a registry and says ten times a second what it sees; until it is killed.
pub(crate) async fn follow(url: &str) -> Result<()> {
    let registry = registry::connect(url)?;
    let services = (0..SERVICES).map(|service| ServiceName::new(&format!("service-{service}")));
    let watches: Vec<SnapshotWatch> = services
        .map(|service| Ok(registry.watch(&service?)))
        .collect::<Result<_>>()?;
    let mut ticks = interval(REPORT);
    loop {
        ticks.tick().await;
        let snapshots: Vec<Snapshot> = watches
            .iter()
            .filter_map(|watch| watch.view().snapshot)
            .collect();
        let instances = snapshots.iter().flat_map(Snapshot::instances);
        let named = instances.map(|i| (i.service.to_string(), i.id.to_string()));
        let line = json!({"digest": digest(named), "megabytes": resident()?});
        println!("{line}");
    }
}

/// This process's resident memory.
fn resident() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    Ok(kib.context("/proc/self/status has no VmRSS in kB")? / 1024.0)
}
