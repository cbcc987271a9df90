//! All of etcd is lost with its data, and restored from a backup, by the commands that operators are told.

use std::{env, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use registry::{Document, InstanceId, Intent, Registry, ServiceName, Status, Weight};
use tempfile::TempDir;
use testkit::{
    Signal,
    etcd::{Cluster, programs},
    fleet::Fleet,
    process::{Process, binary},
    until,
};
use tokio::time::Instant;

use crate::{
    caller::CONFIG,
    outcome::Seen,
    scene::{NAMESPACE, PATIENCE, Pace, Scene},
};

const TEXT: &str = include_str!("../../../../docs/operations.md");
/// A lease, what etcd adds to it for an election, and then some.
const BOUND: Duration = Duration::from_secs(10);
/// How many greeters are in the backup and leave before it is restored: most of them.
const LEAVING: usize = 4;
const CHAPTER: &str = "\n## Backup and restore of etcd\n";

pub(super) async fn restored(pace: Pace) -> Result<Seen> {
    let mut scene = Scene::open(pace).await?;
    let manual = Manual::open()?;
    let registry = registry::connect(&scene.cluster.url(NAMESPACE))?;
    let wanted = Wanted::of(&scene.fleet.addresses())?;
    let leaving = scene.fleet.add_many(LEAVING).await?;
    wanted.write(&registry).await?;
    all_but(&wanted.drained, &scene).await?;
    // A linearizable read: the member that is asked next has all of it now.
    scene.registry_is_right(Instant::now()).await?;
    manual.back_up(&scene.cluster).await?;

    // All of this is younger than the backup.
    scene.fleet.add().await?;
    leave(&mut scene.fleet, &leaving).await?;
    wanted.change(&registry).await?;
    scene.right_again(Instant::now()).await?;
    scene.calm().await;

    scene.cluster.lose().await?;
    until_its_list_is(false, &scene).await?;
    scene.calm().await;
    manual.restore(&scene.cluster).await?;
    scene.cluster.start_all().await?;
    let restored = Instant::now();
    until_its_list_is(true, &scene).await?;
    let current = restored.elapsed();
    wanted.is_as_it_was(&registry).await?;
    // Who has left since is in the backup, until the leases end that are in it too.
    let took = scene.registry_is_right(restored).await?;
    all_but(&wanted.drained, &scene).await?;
    scene.calm().await;
    scene.registry_is_right(Instant::now()).await?;
    let seen = Seen {
        right_after: Some((took, BOUND)),
        remark: format!(
            "the caller's list was current again after {:.1} s; {LEAVING} of {} in the backup had left since",
            current.as_secs_f64(),
            LEAVING + 3,
        ),
        ..Seen::default()
    };
    scene.close(seen).await
}

/// Has greeters leave, all at once.
async fn leave(fleet: &mut Fleet, leaving: &[String]) -> Result<()> {
    for address in leaving {
        fleet.signal(address, Signal::SIGTERM)?;
    }
    for address in leaving {
        fleet.gone(address, PATIENCE).await?;
    }
    Ok(())
}

/// Waits until the caller calls all greeters but one.
async fn all_but(drained: &InstanceId, scene: &Scene) -> Result<()> {
    let mut called = scene.fleet.addresses();
    called.retain(|address| address != drained.as_str());
    scene.caller.until_it_calls(&called, PATIENCE).await
}

async fn until_its_list_is(current: bool, scene: &Scene) -> Result<()> {
    let what = format!("the caller's list to be current: {current}");
    until(PATIENCE, &what, async || {
        let freshness = &scene.caller.channel().await?["freshness"];
        ensure!((freshness == "live") == current, "it says {freshness}");
        Ok(())
    })
    .await
}

/// What an operator has written, all of which is in the backup.
struct Wanted {
    service: ServiceName,
    drained: InstanceId,
    /// Whose weight is changed when the backup is there already.
    heavier: InstanceId,
}

impl Wanted {
    fn of(greeters: &[String]) -> Result<Self> {
        let [drained, heavier, ..] = greeters else {
            bail!("{greeters:?} are too few");
        };
        Ok(Self {
            service: ServiceName::new("greeter")?,
            drained: InstanceId::new(drained)?,
            heavier: InstanceId::new(heavier)?,
        })
    }

    async fn write(&self, registry: &Registry) -> Result<()> {
        let config = Document::new(CONFIG)?;
        registry.set_document(&self.service, config).await?;
        let draining = Intent::from(Status::Draining);
        registry
            .set_intent(&self.service, &self.drained, draining)
            .await?;
        Ok(())
    }

    /// Writes something else in each place, and where nothing was.
    async fn change(&self, registry: &Registry) -> Result<()> {
        registry.clear_intent(&self.service, &self.drained).await?;
        let heavier = Intent::from(Weight::new(3)?);
        registry
            .set_intent(&self.service, &self.heavier, heavier)
            .await?;
        let config = CONFIG.replace("\"maxAttempts\": 3", "\"maxAttempts\": 2");
        ensure!(config != CONFIG, "it is the same config");
        let config = Document::new(&config)?;
        registry.set_document(&self.service, config.clone()).await?;
        registry.set_document(&absent()?, config).await?;
        Ok(())
    }

    /// Waits until the registry has what the backup has and no more, and the instance itself puts back the weight that is younger.
    async fn is_as_it_was(&self, registry: &Registry) -> Result<()> {
        until(PATIENCE, "what was backed up", async || {
            let config = registry.read_document(&self.service).await?;
            let config = config.as_ref().map(Document::as_str);
            ensure!(config == Some(CONFIG), "the config is {config:?}");
            let younger = registry.read_document(&absent()?).await?;
            ensure!(younger.is_none(), "there is a config that is younger");
            let intents = registry.intents(&self.service).await?;
            let drained = intents.get(&self.drained).and_then(Intent::status);
            ensure!(
                intents.len() == 1 && drained == Some(Status::Draining),
                "operators want {intents:?}"
            );
            let listed = registry.list(&self.service).await?;
            let weight = listed.get(&self.heavier).map(|instance| instance.weight);
            ensure!(
                weight == Some(Weight::new(3)?),
                "the weight that an instance remembers is {weight:?}"
            );
            Ok(())
        })
        .await
    }
}

/// A service of which the backup has nothing.
fn absent() -> Result<ServiceName> {
    Ok(ServiceName::new("absent")?)
}

/// The commands of the manual, and the directory in which they are run.
struct Manual {
    back_up: &'static str,
    restore: &'static str,
    directory: TempDir,
}

impl Manual {
    fn open() -> Result<Self> {
        let (_, chapter) = TEXT.split_once(CHAPTER).context("it has no such chapter")?;
        let blocks = chapter.split("```sh\n").skip(1);
        let mut blocks = blocks.filter_map(|rest| Some(rest.split_once("```")?.0));
        let mut next = |what| {
            blocks
                .next()
                .with_context(|| format!("it has no commands that {what}"))
        };
        Ok(Self {
            back_up: next("back up")?,
            restore: next("restore")?,
            directory: tempfile::tempdir()?,
        })
    }

    async fn back_up(&self, cluster: &Cluster) -> Result<()> {
        let variables = [
            ("MEMBER", cluster.endpoints().swap_remove(0)),
            ("DISCOVERY__REGISTRY__URL", cluster.url(NAMESPACE)),
        ];
        self.run(self.back_up, variables).await
    }

    async fn restore(&self, cluster: &Cluster) -> Result<()> {
        for member in 0..cluster.len() {
            let variables = cluster.environment(member);
            self.run(self.restore, variables).await?;
        }
        Ok(())
    }

    async fn run(
        &self,
        commands: &str,
        variables: impl IntoIterator<Item = (&str, String)>,
    ) -> Result<()> {
        let ours = binary("discovery")?.with_file_name("");
        let paths = env::var_os("PATH").context("there is no PATH")?;
        let paths = [ours, programs()?]
            .into_iter()
            .chain(env::split_paths(&paths));
        let mut shell = Command::new("sh");
        shell.args(["-euc", commands]).current_dir(&self.directory);
        shell.envs(variables).env("PATH", env::join_paths(paths)?);
        let shell = Process::spawn("the manual", shell)?;
        let status = shell.wait(PATIENCE).await?;
        ensure!(
            status.success(),
            shell.complaint(&format!("ended with {status}: {commands}"))
        );
        Ok(())
    }
}
