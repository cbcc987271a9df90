//! The running Compose stack: who is in it, and whether all of it is right.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use crate::{
    docker::{Container, docker},
    load::Load,
    plan::{Deed, Step, Whom},
};

/// The port that every service of the images listens on.
const PORT: u16 = 50051;
/// How often it is looked whether all is right.
const LOOK: Duration = Duration::from_millis(50);

/// The containers that faults are for, as they were when all was well.
#[derive(Debug)]
pub(crate) struct Stack {
    greeters: Vec<Container>,
    users: Vec<Container>,
    members: Vec<Container>,
}

impl Stack {
    /// Those of a Compose project that run.
    ///
    /// # Errors
    /// When there are fewer than two greeters, two user services or three members: then a fault would be an outage.
    pub(crate) async fn find(project: &str) -> Result<Self> {
        let of_project = format!("label=com.docker.compose.project={project}");
        let by_hand = "label=com.docker.compose.oneoff=False";
        let list = ["ps", "--no-trunc", "--format", "{{.ID}}", "--filter"];
        let found = docker(&[&list[..], &[&of_project, "--filter", by_hand]].concat()).await?;
        let mut containers = try_join_all(found.lines().map(Container::find)).await?;
        // The same places for the same seed.
        containers.sort_by(|one, other| one.name.cmp(&other.name));
        let of = |is_it: &dyn Fn(&str) -> bool| {
            let those = containers.iter().filter(|one| is_it(&one.service));
            those.cloned().collect::<Vec<_>>()
        };
        let stack = Self {
            greeters: of(&|service| service == "greeter"),
            users: of(&|service| service == "user"),
            members: of(&|service| service.starts_with("etcd-")),
        };
        let those = [&stack.greeters, &stack.users, &stack.members].map(Vec::len);
        let [greeters, users, members] = those;
        ensure!(
            greeters > 1 && users > 1 && members > 2,
            "two greeters, two user services and three members of etcd have to run in the Compose project {project}, and there are \
             {greeters}, {users} and {members}; `just up` starts them"
        );
        Ok(stack)
    }

    /// Whom a step is for.
    pub(crate) fn victims(&self, step: &Step) -> Vec<Container> {
        let one_of = |all: &[Container], place: usize| vec![all[place % all.len()].clone()];
        match step.whom {
            Whom::AllMembers => self.members.clone(),
            Whom::Member(place) => one_of(&self.members, place),
            Whom::User(place) => one_of(&self.users, place),
            Whom::Greeter(place) => one_of(&self.greeters, place),
        }
    }

    /// Has everybody run in their network again, whatever was done to them. One that is given another address than it has
    /// told the registry is started anew, as its machine would be.
    pub(crate) async fn mend(&self, victims: &[Victim]) -> Result<()> {
        for victim in victims {
            victim.container.mend().await?;
            let moved = victim.container.ip().await? != victim.ip;
            if victim.deed == Deed::CutOff && moved {
                victim.container.restart().await?;
            }
        }
        Ok(())
    }

    /// Waits until every member answers with a quorum, every service is ready, and the callers have a current list, are connected to
    /// just the instances that run, and call each of them. Tells how long it took.
    pub(crate) async fn right_again(&self, loads: &[Load], bound: Duration) -> Result<Duration> {
        let since = Instant::now();
        let mut before = None;
        loop {
            let last = match self.right(loads).await {
                Ok(picks) => {
                    let before = before.get_or_insert_with(|| picks.clone());
                    if each_was_picked(before, &picks) {
                        return Ok(since.elapsed());
                    }
                    anyhow::anyhow!("not every instance is called: {before:?}, then {picks:?}")
                }
                Err(error) => {
                    before = None;
                    error
                }
            };
            if since.elapsed() > bound {
                return Err(last).with_context(|| format!("not right again within {bound:?}"));
            }
            sleep(LOOK).await;
        }
    }

    async fn right(&self, loads: &[Load]) -> Result<BTreeMap<String, u64>> {
        let mut picks = BTreeMap::new();
        for load in loads {
            let expected = self.addresses(load.caller.service).await?;
            picks.extend(load.picks(&expected).await?);
        }
        try_join_all(self.members.iter().map(Container::has_quorum)).await?;
        let services = self.greeters.iter().chain(&self.users);
        try_join_all(services.map(Container::is_ready)).await?;
        Ok(picks)
    }

    /// Where the instances of a service answer. An error unless each has an address.
    async fn addresses(&self, service: &str) -> Result<BTreeSet<String>> {
        let services = self.greeters.iter().chain(&self.users);
        let those: Vec<_> = services.filter(|one| one.service == service).collect();
        let found = try_join_all(those.iter().map(|one| one.ip())).await?;
        let addresses: BTreeSet<_> = found
            .into_iter()
            .flatten()
            .map(|ip| format!("{ip}:{PORT}"))
            .collect();
        ensure!(
            addresses.len() == those.len(),
            "of {service} only {addresses:?} have an address"
        );
        Ok(addresses)
    }

    /// Somebody to ask about users.
    pub(crate) fn user_service(&self) -> &Container {
        &self.users[0]
    }
}

/// Whether each instance that is there now was picked between two looks. One that registered anew in between counts anew, and so
/// may have less.
fn each_was_picked(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> bool {
    let was = |address| before.get(address).copied().unwrap_or(0);
    now.iter().all(|(address, picks)| *picks != was(address))
}

/// A container that something is being done to.
#[derive(Debug, Clone)]
pub(crate) struct Victim {
    pub(crate) container: Container,
    pub(crate) deed: Deed,
    ip: Option<std::net::Ipv4Addr>,
}

impl Victim {
    /// What it is before that.
    pub(crate) async fn of(container: Container, deed: Deed) -> Result<Self> {
        let ip = container.ip().await?;
        Ok(Self {
            container,
            deed,
            ip,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter()
            .map(|(address, n)| ((*address).to_owned(), *n))
            .collect()
    }

    #[test]
    fn an_instance_that_was_started_anew_is_picked_again_though_it_counts_less() {
        let before = picks(&[("a:1", 100), ("b:1", 200)]);
        assert!(each_was_picked(
            &before,
            &picks(&[("a:1", 101), ("b:1", 7)])
        ));
        assert!(each_was_picked(
            &before,
            &picks(&[("a:1", 101), ("c:1", 1)])
        ));
        for left_out in [[("a:1", 101), ("b:1", 200)], [("a:1", 101), ("c:1", 0)]] {
            assert!(!each_was_picked(&before, &picks(&left_out)), "{left_out:?}");
        }
    }
}
