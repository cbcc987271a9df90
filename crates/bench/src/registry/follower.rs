//! A process that follows a service, seen from outside.

use std::{env, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use testkit::etcd::Cluster;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::watcher::{By, Figures};

const BOUND: Duration = Duration::from_mins(2);

/// Killed when dropped.
pub(super) struct Follower {
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// How much memory it had when it knew every instance, in bytes.
    pub(super) memory: f64,
}

impl Follower {
    /// Starts one, which knows every instance when this returns.
    pub(super) async fn start(cluster: &Cluster, by: By, service: &str) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["watch", "--by", by.word(), "--service", service])
            .args(["--endpoint", &cluster.endpoints()[0]])
            // What was needed for a moment only is given back at once, and is not taken for what is held.
            .env("MALLOC_MMAP_THRESHOLD_", "65536")
            .env("MALLOC_TRIM_THRESHOLD_", "0")
            .env("MALLOC_TOP_PAD_", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().context("its standard input is piped")?;
        let answers = child
            .stdout
            .take()
            .context("its standard output is piped")?;
        let mut follower = Self {
            _child: child,
            orders,
            answers: BufReader::new(answers).lines(),
            memory: 0.0,
        };
        follower.memory = follower.until(0).await?.memory;
        Ok(follower)
    }

    /// Waits until it has seen that revision.
    pub(super) async fn until(&mut self, revision: i64) -> Result<Figures> {
        self.orders
            .write_all(format!("{revision}\n").as_bytes())
            .await?;
        let answer = timeout(BOUND, self.answers.next_line()).await??;
        let answer = answer.context("the follower has ended")?;
        serde_json::from_str(&answer).with_context(|| format!("the follower says {answer:?}"))
    }

    /// What it has computed so far.
    pub(super) async fn cpu(&mut self) -> Result<Duration> {
        Ok(self.until(0).await?.cpu)
    }
}
