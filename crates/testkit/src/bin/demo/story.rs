//! What happens, step by step.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use testkit::{
    etcd::Cluster,
    fleet::{Client, Fleet},
    sight::Sight,
};

use crate::{
    narrator::{Narrator, detail, print},
    stage::Stage,
    users::Users,
    viewer::Viewer,
};

/// How long the client may take to see a change; it takes milliseconds.
const SEEN: Duration = Duration::from_secs(15);
/// How long the client may take to finish its last calls.
const FINISHED: Duration = Duration::from_secs(30);
/// As fast as it can, with a bound on what is in flight, and time enough on a machine that is busy with other things.
const FULL_SPEED: &str = "--interval 0s --concurrency 16 --timeout 5s";
/// Who is created and greeted: the id, and what people call them.
const PEOPLE: [(&str, &str); 3] = [("ann", "Ann"), ("ben", "Ben"), ("eve", "Eve")];

/// Tells the whole story; the exit code says whether a call failed.
pub(crate) async fn tell(mut stage: Stage, narrator: &Narrator) -> Result<ExitCode> {
    detail(&format!("the registry is {}", stage.url()));
    detail(stage.describe());
    let mut scene = Scene::open(&stage, narrator).await?;
    scene.start_two_more().await?;
    scene.kill_one().await?;
    scene.stop_one().await?;
    if let Stage::Etcd(cluster) = &mut stage {
        scene.kill_the_leader(cluster).await?;
    }
    scene.restart_the_rest().await?;
    scene.stop_the_client().await?;
    scene.greet_users(stage.url()).await?;
    Ok(scene.outcome)
}

struct Scene<'a> {
    narrator: &'a Narrator,
    // In the order in which they end when the story is broken off.
    viewer: Viewer,
    client: Client,
    fleet: Fleet,
    /// Whether a call of the client has failed.
    outcome: ExitCode,
}

impl<'a> Scene<'a> {
    async fn open(stage: &Stage, narrator: &'a Narrator) -> Result<Self> {
        narrator.step(
            "start three greeters, each a process that registers itself under the name greeter",
        );
        let mut fleet = Fleet::new(stage.url())?;
        for _ in 0..3 {
            fleet.add().await?;
            introduce(&fleet);
        }

        narrator.step(
            "start a client at full speed, 16 calls at a time; all it knows is the name greeter",
        );
        let client = fleet.client(&FULL_SPEED.split(' ').collect::<Vec<_>>())?;
        narrator.look("the calls of each second, and how they spread over the greeters");
        let mut viewer = Viewer::start(client.process().lines(), narrator.clone());
        let found = |sight: &Sight| sight.instances.len() == 3;
        viewer.until("three greeters", SEEN, found).await?;
        viewer.seconds(2).await?;
        Ok(Self {
            narrator,
            viewer,
            client,
            fleet,
            outcome: ExitCode::SUCCESS,
        })
    }

    async fn start_two_more(&mut self) -> Result<()> {
        self.narrator.step("start two more");
        self.narrator
            .look("they get their share as soon as they have registered; nobody told the client");
        for _ in 0..2 {
            self.fleet.add().await?;
            introduce(&self.fleet);
        }
        let found = |sight: &Sight| sight.instances.len() == 5;
        self.viewer.until("five greeters", SEEN, found).await?;
        self.viewer.seconds(2).await
    }

    async fn kill_one(&mut self) -> Result<()> {
        let address = self.eldest()?;
        self.narrator.step(&format!(
            "kill {address} with SIGKILL: it has no time to say so"
        ));
        self.narrator
            .look("the calls that broke off are made again elsewhere, so 0 failed");
        self.fleet.kill(&address).await?;
        self.viewer
            .until("the greeter gone", SEEN, |sight| !sight.has(&address))
            .await?;
        self.viewer.seconds(2).await
    }

    async fn stop_one(&mut self) -> Result<()> {
        let address = self.eldest()?;
        self.narrator.step(&format!("stop {address} with SIGTERM"));
        self.narrator
            .look("it drains first: it gets no new call, finishes those it has, and ends");
        self.fleet.stop(&address).await?;
        detail(&format!("{address} has ended with exit code 0"));
        self.viewer
            .until("the greeter gone", SEEN, |sight| !sight.has(&address))
            .await?;
        self.viewer.seconds(1).await
    }

    async fn kill_the_leader(&mut self, cluster: &mut Cluster) -> Result<()> {
        let leader = cluster.leader().await?;
        let address = &cluster.endpoints()[leader];
        self.narrator.step(&format!(
            "kill the leader of the etcd cluster ({address}) with SIGKILL"
        ));
        self.narrator
            .look("the calls do not go through etcd: they do not notice");
        cluster.kill(leader).await?;
        self.viewer.seconds(3).await?;
        let leader = cluster.leader().await?;
        detail(&format!(
            "the others have elected {}",
            cluster.endpoints()[leader]
        ));
        Ok(())
    }

    async fn restart_the_rest(&mut self) -> Result<()> {
        self.narrator
            .step("restart the others one after another, as a deployment does");
        self.narrator
            .look("each goes and comes back, and the calls go round it");
        for address in self.fleet.addresses() {
            self.fleet.restart(&address).await?;
            introduce(&self.fleet);
            self.viewer
                .until("the greeter back", SEEN, |sight| sight.has(&address))
                .await?;
        }
        self.viewer.seconds(1).await
    }

    /// Stops the client, as Ctrl-C does, and shows the table that it prints.
    async fn stop_the_client(&mut self) -> Result<()> {
        self.narrator.step("stop the client");
        self.client.interrupt()?;
        let (status, table) = self.client.end(FINISHED).await?;
        print("");
        for line in table {
            print(&line);
        }
        if !status.success() {
            self.outcome = ExitCode::FAILURE;
        }
        Ok(())
    }

    /// Has a second service call the greeters, found by its name as they are.
    async fn greet_users(&self, registry: String) -> Result<()> {
        self.narrator
            .step("start a user-service, which keeps its users in one SQLite file");
        let users = Users::start(registry).await?;
        detail(&users.describe());
        self.narrator
            .step("create three users: user-service admin create, which finds it by the name user");
        for (id, name) in PEOPLE {
            let email = format!("{id}@example.com");
            let words = ["create", id, "--email", &email, "--display-name", name];
            detail(&users.admin(&words).await?);
        }
        self.narrator
            .step("have them greeted: user-service admin greet");
        self.narrator.look(
            "user-service knows no more than the name greeter either, and calls them in turn",
        );
        for (id, _) in PEOPLE {
            detail(&users.admin(&["greet", id]).await?);
        }
        self.narrator.step("stop user-service");
        users.stop().await?;
        detail("it has ended with exit code 0");
        Ok(())
    }

    fn eldest(&self) -> Result<String> {
        let eldest = self.fleet.servers().first().context("no greeter is left")?;
        Ok(eldest.address().to_owned())
    }
}

/// Says who has just come.
fn introduce(fleet: &Fleet) {
    if let Some(server) = fleet.servers().last() {
        detail(&format!("{} (process {})", server.address(), server.pid()));
    }
}
