//! Real etcd clusters on loopback: started, broken and mended at will. etcd 3.4 and 3.5 both work.

mod etcdctl;
mod keys;
mod member;

use std::{
    collections::{BTreeMap, HashSet},
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

pub use self::keys::Key;
use crate::{Port, Signal, etcd::member::Member, process::on_path, tls::Identity, until};

/// A cluster that has not answered in this time will not; it takes one to three seconds.
const HEALTHY: Duration = Duration::from_mins(1);
/// How long a member may take to end by itself after SIGTERM, which it uses to hand leadership on.
const STOPPED: Duration = Duration::from_secs(20);

/// What a cluster is made of.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// The members' client ports, one for each member; each member's peer port is the one above.
    pub client_ports: Vec<u16>,
    /// Where the members keep their data. What is there is continued with; `None` is a directory that goes with the
    /// cluster.
    pub data: Option<PathBuf>,
    /// How the members secure what clients send; `None` is not at all. A member that does takes another port, two above
    /// its own, at which this testkit goes on without TLS.
    pub tls: Option<ClusterTls>,
    /// Further arguments of `etcd`.
    pub arguments: Vec<String>,
}

/// TLS towards the clients of a cluster, by files that etcd reads again for each connection.
#[derive(Debug, Clone)]
pub struct ClusterTls {
    /// The members' certificate and its key.
    pub identity: Identity,
    /// Who has to vouch for a client's certificate; `None` asks for none.
    pub client_authority: Option<PathBuf>,
}

/// A running cluster. Dropped, its members are killed and their data is removed.
///
/// Members are counted from 0. It belongs to no runtime.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    data: Data,
    has_tls: bool,
    /// Kept for members that are down; none where the ports were given.
    ports: Vec<Port>,
    /// What `etcdctl` calls itself, once the cluster asks who it is.
    user: Option<String>,
}

#[derive(Debug)]
enum Data {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Data {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Kept(path) => path,
        }
    }
}

impl Cluster {
    /// A cluster of `members` on free ports, healthy when this returns.
    pub async fn start(members: usize) -> Result<Self> {
        Self::start_like(members, ClusterOptions::default()).await
    }

    /// The same with options, whose ports do not count.
    pub async fn start_like(members: usize, options: ClusterOptions) -> Result<Self> {
        let width = member::ports_of(options.tls.is_some());
        let ports: Vec<_> = (0..members)
            .map(|_| Port::free_row(width))
            .collect::<Result<_>>()?;
        let mut cluster = Self::start_with(ClusterOptions {
            client_ports: ports.iter().map(|row| row[0].number()).collect(),
            ..options
        })
        .await?;
        cluster.ports = ports.into_iter().flatten().collect();
        Ok(cluster)
    }

    /// A cluster of one member, which is what starts fastest.
    pub async fn start_one() -> Result<Self> {
        Self::start(1).await
    }

    /// A cluster of the ports and the place given, healthy when this returns.
    pub async fn start_with(options: ClusterOptions) -> Result<Self> {
        let ports = &options.client_ports;
        ensure!(
            !ports.is_empty(),
            "an etcd cluster needs at least one member"
        );
        let width = member::ports_of(options.tls.is_some());
        let all: HashSet<_> = ports
            .iter()
            .flat_map(|port| (0..width).map(|above| port.saturating_add(above)))
            .collect();
        ensure!(
            all.len() == usize::from(width) * ports.len(),
            "the ports {ports:?} clash: each member takes {width}, its own and those above it"
        );
        let data = match &options.data {
            Some(path) => {
                fs::create_dir_all(path)
                    .with_context(|| format!("cannot create {}", path.display()))?;
                Data::Kept(path.clone())
            }
            None => Data::Temporary(tempfile::Builder::new().prefix("etcd-").tempdir()?),
        };
        let mut cluster = Self {
            members: Member::all(&options, data.path()),
            has_tls: options.tls.is_some(),
            data,
            ports: Vec::new(),
            user: None,
        };
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// How many members it has, running or not.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Never: a cluster has members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where the members' data is.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// `host:port` of each member, for clients.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::endpoint).collect()
    }

    /// The registry URL of this cluster with that namespace; none when it is empty.
    pub fn url(&self, namespace: &str) -> String {
        let slash = if namespace.is_empty() { "" } else { "/" };
        let scheme = if self.has_tls { "etcds" } else { "etcd" };
        let endpoints = self.endpoints().join(",");
        format!("{scheme}://{endpoints}{slash}{namespace}")
    }

    /// The same URL as [`url`](Self::url) where nothing is secured by TLS: where this testkit goes on without.
    pub fn own_url(&self, namespace: &str) -> String {
        let endpoints: Vec<_> = self.members.iter().map(Member::own_endpoint).collect();
        format!("etcd://{}/{namespace}", endpoints.join(","))
    }

    /// Kills a member (SIGKILL). Nothing to do when it is not running.
    pub async fn kill(&mut self, member: usize) -> Result<()> {
        self.members[member].kill().await
    }

    /// Stops a member (SIGTERM): a leader hands leadership on. Nothing to do when it is not running.
    pub async fn stop(&mut self, member: usize) -> Result<()> {
        self.members[member].stop(STOPPED).await
    }

    /// Starts a member that was killed or stopped, with the data it had, and waits until it is healthy.
    pub async fn restart(&mut self, member: usize) -> Result<()> {
        self.members[member].kill().await?;
        self.members[member].start()?;
        self.members[member].healthy(HEALTHY).await
    }

    /// Stops a member (SIGTERM) and starts it with the data it had by the `etcd` in that directory, which is used for it from then
    /// on: an upgrade, where that is a later version. Waits until it is healthy.
    pub async fn upgrade(&mut self, member: usize, programs: &Path) -> Result<()> {
        self.stop(member).await?;
        self.members[member].use_programs(programs);
        self.restart(member).await
    }

    /// The version of each member, all of which run, and that of the cluster, which is as far as the oldest of them and is
    /// looked at by its leader every few seconds.
    pub async fn versions(&self) -> Result<(Vec<String>, String)> {
        let (mut versions, mut together) = (Vec::new(), String::new());
        for member in &self.members {
            let (own, of_cluster) = member.versions().await?;
            versions.push(own);
            together = of_cluster;
        }
        Ok((versions, together))
    }

    /// Makes a member hang (SIGSTOP): its sockets stay open and nothing answers.
    pub fn pause(&self, member: usize) -> Result<()> {
        self.members[member].signal(Signal::SIGSTOP)
    }

    /// Lets a member that hangs go on (SIGCONT).
    pub fn resume(&self, member: usize) -> Result<()> {
        self.members[member].signal(Signal::SIGCONT)
    }

    /// Kills all members at once.
    pub async fn stop_all(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.kill().await?;
        }
        Ok(())
    }

    /// Starts all members that are not running, with the data they had, and waits until all are healthy.
    pub async fn start_all(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.start()?;
        }
        for member in &self.members {
            member.healthy(HEALTHY).await?;
        }
        Ok(())
    }

    /// Kills all members, removes their data, and starts them as a new cluster on the same ports. Cluster and member
    /// ids are the same as before, as they are when an operator does this.
    pub async fn wipe(&mut self) -> Result<()> {
        self.lose().await?;
        self.start_all().await
    }

    /// Kills all members and removes their data.
    pub async fn lose(&mut self) -> Result<()> {
        self.stop_all().await?;
        for member in &self.members {
            member.remove_data()?;
        }
        Ok(())
    }

    /// Who a member is, by the variables that etcd reads where it is not told by arguments: its name, where its data is, the
    /// members of the cluster, and where the others reach it. With these a backup is restored.
    pub fn environment(&self, member: usize) -> Vec<(&'static str, String)> {
        self.members[member].environment()
    }

    /// The member that leads; waits for an election to end.
    pub async fn leader(&self) -> Result<usize> {
        until(HEALTHY, "a leader", async || {
            for (number, member) in self.members.iter().enumerate() {
                if member.is_leader().await.unwrap_or(false) {
                    return Ok(number);
                }
            }
            bail!("no member says that it leads")
        })
        .await
    }

    /// How many calls of a gRPC method the members have answered since each was started.
    pub async fn calls(&self, method: &str) -> Result<u64> {
        let mut calls = 0;
        for member in &self.members {
            calls += member.calls(method).await?;
        }
        Ok(calls)
    }

    /// Waits until a member has ended by itself, or was killed by somebody else, and tells that as an error. Cancellation
    /// safe.
    pub async fn ended(&self, member: usize) -> anyhow::Error {
        self.members[member].ended().await
    }

    /// All keys that begin with `prefix`, which ends with a `/`, by a linearizable read at whichever member answers.
    pub async fn keys(&self, prefix: &str) -> Result<BTreeMap<String, Key>> {
        if self.user.is_some() {
            // etcd's JSON gateway would want a token.
            return keys::read(&self.etcdctl(&["get", "--prefix", prefix]).await?);
        }
        let mut last = None;
        for member in &self.members {
            match member.keys(prefix).await {
                Ok(keys) => return Ok(keys),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("a cluster has members"))
    }
}

/// The directory of the etcd that members are upgraded to: `$ETCD_NEXT_BIN_DIR`, and without it that of the one they run already.
pub fn next_programs() -> Result<PathBuf> {
    let next = match env::var_os("ETCD_NEXT_BIN_DIR") {
        Some(directory) => program_in(Path::new(&directory), "etcd", "ETCD_NEXT_BIN_DIR")?,
        None => return programs(),
    };
    Ok(next.with_file_name(""))
}

/// The directory of the etcd that members run: `$ETCD_BIN_DIR`, and without it that on the PATH.
pub fn programs() -> Result<PathBuf> {
    Ok(program("etcd", "etcd-server")?.with_file_name(""))
}

/// A program of etcd's: in `$ETCD_BIN_DIR` when that is set, else on the PATH.
fn program(name: &str, package: &str) -> Result<PathBuf> {
    if let Some(directory) = env::var_os("ETCD_BIN_DIR") {
        return program_in(Path::new(&directory), name, "ETCD_BIN_DIR");
    }
    on_path(name).with_context(|| {
        format!(
            "{name} is not installed: install the Debian package {package} (apt-get install {package}), or set \
             ETCD_BIN_DIR to the directory that has it"
        )
    })
}

/// A program in the directory that a variable names.
fn program_in(directory: &Path, name: &str, variable: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    ensure!(
        path.is_file(),
        "there is no {} ({variable} says so)",
        path.display()
    );
    Ok(path)
}
