//! One member of a cluster, running or not.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use tokio::time::timeout;

use super::{ClusterOptions, ClusterTls, Key, keys, program};
use crate::{Signal, http, process::Process, until};

/// How long its last lines may take to be read once it has ended.
const READ: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Member {
    name: String,
    client_port: u16,
    data: PathBuf,
    /// `name=peer-url` of every member, as etcd's `--initial-cluster` wants it.
    cluster: String,
    tls: Option<ClusterTls>,
    arguments: Vec<String>,
    /// Where its `etcd` is, when that is not the one of all.
    programs: Option<PathBuf>,
    process: Option<Process>,
}

/// How many ports in a row a member takes: for clients, for peers, and with TLS one without it.
pub(super) fn ports_of(has_tls: bool) -> u16 {
    if has_tls { 3 } else { 2 }
}

impl Member {
    /// The members of a cluster, not running.
    pub(super) fn all(options: &ClusterOptions, data: &Path) -> Vec<Self> {
        let client_ports = &options.client_ports;
        let name = |number: usize| format!("etcd-{number}");
        let cluster: Vec<_> = client_ports
            .iter()
            .enumerate()
            .map(|(number, port)| format!("{}={}", name(number), peer_url(*port)))
            .collect();
        client_ports
            .iter()
            .enumerate()
            .map(|(number, port)| Self {
                name: name(number),
                client_port: *port,
                data: data.join(name(number)),
                cluster: cluster.join(","),
                tls: options.tls.clone(),
                arguments: options.arguments.clone(),
                programs: None,
                process: None,
            })
            .collect()
    }

    pub(super) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Where this testkit reaches it, without TLS.
    pub(super) fn own_endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.own_port())
    }

    fn own_port(&self) -> u16 {
        let above = if self.tls.is_some() { 2 } else { 0 };
        self.client_port + above
    }

    /// What it listens on, and what it says that clients are to use.
    fn client_urls(&self) -> (String, String) {
        let own = format!("http://{}", self.own_endpoint());
        if self.tls.is_none() {
            return (own.clone(), own);
        }
        let secured = format!("https://{}", self.endpoint());
        (format!("{secured},{own}"), secured)
    }

    /// Is started by the `etcd` in that directory from now on.
    pub(super) fn use_programs(&mut self, directory: &Path) {
        self.programs = Some(directory.to_owned());
    }

    /// Who it is, by the variables that etcd reads.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ETCD_NAME", self.name.clone()),
            ("ETCD_DATA_DIR", self.data.display().to_string()),
            ("ETCD_INITIAL_CLUSTER", self.cluster.clone()),
            (
                "ETCD_INITIAL_ADVERTISE_PEER_URLS",
                peer_url(self.client_port),
            ),
        ]
    }

    /// Its own version, and that of the cluster.
    pub(super) async fn versions(&self) -> Result<(String, String)> {
        let said = http::get(self.own_port(), "/version").await?;
        let version = |of: &str| {
            let text = said[of].as_str().map(str::to_owned);
            text.with_context(|| format!("{} says {said}", self.name))
        };
        Ok((version("etcdserver")?, version("etcdcluster")?))
    }

    /// Starts it unless it is running.
    pub(super) fn start(&mut self) -> Result<()> {
        if self
            .process
            .as_ref()
            .is_some_and(|p| p.try_wait().is_none())
        {
            return Ok(());
        }
        let (listen, advertise) = self.client_urls();
        let peer = peer_url(self.client_port);
        let mut command = Command::new(match &self.programs {
            Some(directory) => directory.join("etcd"),
            None => program("etcd", "etcd-server")?,
        });
        command
            .args(["--name", &self.name, "--data-dir"])
            .arg(&self.data)
            .args([
                "--listen-client-urls",
                &listen,
                "--advertise-client-urls",
                &advertise,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &self.cluster,
                "--initial-cluster-state",
                "new",
            ])
            .args(["--logger", "zap", "--log-level", "warn"])
            .args(&self.arguments);
        if let Some(tls) = &self.tls {
            command.arg("--cert-file").arg(&tls.identity.certificate);
            command.arg("--key-file").arg(&tls.identity.key);
            if let Some(authority) = &tls.client_authority {
                command.args(["--client-cert-auth", "--trusted-ca-file"]);
                command.arg(authority);
            }
        }
        // etcd reads its flags from the environment too, and refuses to start when both are given.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        self.process = Some(Process::spawn(&self.name, command)?);
        Ok(())
    }

    /// Waits until it says that it is healthy: it has a leader and answers linearizable reads.
    pub(super) async fn healthy(&self, bound: Duration) -> Result<()> {
        let process = self.process()?;
        let what = format!("{} to be healthy", self.name);
        let healthy = until(bound, &what, async || {
            let answer = http::get(self.own_port(), "/health").await?;
            ensure!(answer["health"] == "true", "{} says {answer}", self.name);
            Ok(())
        });
        tokio::select! {
            ended = self.ended() => Err(ended),
            healthy = healthy => healthy.with_context(|| process.complaint("is not healthy")),
        }
    }

    /// Waits until it has ended by itself and tells that as an error.
    pub(super) async fn ended(&self) -> Error {
        let ended = async {
            let process = self.process()?;
            let status = process.ended().await?;
            if status.signal().is_some() {
                // Somebody wanted it so: what it printed says nothing about it.
                return Ok(anyhow!("{process} has ended with {status}"));
            }
            // Why, it says last: that may be read after it has gone.
            let _ = timeout(READ, process.printed(READ)).await;
            Ok(process.complaint(&format!("has ended with {status}")))
        };
        ended.await.unwrap_or_else(|error| error)
    }

    /// Whether it says that it leads the cluster.
    pub(super) async fn is_leader(&self) -> Result<bool> {
        let status = http::post(self.own_port(), "/v3/maintenance/status", "{}").await?;
        let leader = &status["leader"];
        Ok(leader.is_string() && *leader == status["header"]["member_id"])
    }

    /// All keys that begin with `prefix`, and what is known of each.
    pub(super) async fn keys(&self, prefix: &str) -> Result<BTreeMap<String, Key>> {
        let request = keys::request(prefix);
        keys::read(&http::post(self.own_port(), "/v3/kv/range", &request).await?)
    }

    /// How many calls of a gRPC method it has answered since it was started.
    pub(super) async fn calls(&self, method: &str) -> Result<u64> {
        let metrics = http::text(self.own_port(), "/metrics").await?;
        let method = format!("grpc_method=\"{method}\"");
        let is_of_method =
            |line: &&str| line.starts_with("grpc_server_handled_total{") && line.contains(&method);
        let counted = metrics.lines().filter(is_of_method).map(|line| {
            let count = line.rsplit(' ').next().unwrap_or_default();
            let count = count.parse::<u64>();
            count.with_context(|| format!("{} counts {line:?}", self.name))
        });
        counted.sum()
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        self.process()?.signal(signal)
    }

    pub(super) async fn kill(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    pub(super) async fn stop(&mut self, bound: Duration) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.terminate(bound).await?;
        }
        Ok(())
    }

    pub(super) fn remove_data(&self) -> Result<()> {
        fs::remove_dir_all(&self.data)
            .with_context(|| format!("cannot remove {}", self.data.display()))
    }

    fn process(&self) -> Result<&Process> {
        match &self.process {
            Some(process) => Ok(process),
            None => bail!("{} is not running", self.name),
        }
    }
}

fn peer_url(client_port: u16) -> String {
    format!("http://127.0.0.1:{}", client_port + 1)
}
