//! The process that is measured: does some work over one of the channels, and tells what it took.

use std::{
    env,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};
use tokio::{runtime, time::Instant};

use crate::{
    peers::{
        BareH2, InMemory, Measured, Peer, Watch, balanced, connected, full, tonic_balance,
        tonic_one,
    },
    process::cpu_time,
    work::Work,
};

/// What a client is to do; the arguments of its command line.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Job {
    #[arg(long)]
    pub(crate) peer: Peer,
    #[arg(long)]
    pub(crate) work: Work,
    /// Calls under way at a time.
    #[arg(long)]
    pub(crate) callers: u32,
    /// Calls, or messages on the one stream.
    #[arg(long)]
    pub(crate) count: u32,
    #[arg(long)]
    pub(crate) threads: usize,
    /// Whereto watched channels send their spans.
    #[arg(long)]
    pub(crate) collector: Option<String>,
    #[arg(required = true)]
    pub(crate) addresses: Vec<String>,
}

/// What the work took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// In seconds.
    pub(crate) cpu: f64,
    /// In seconds.
    pub(crate) elapsed: f64,
    /// Of [timed](Work::Timed) calls, in microseconds: one half, all but one in 100, all but one in 1,000 took no longer.
    pub(crate) latencies: [u64; 3],
}

impl Job {
    /// The command that does it.
    pub(crate) fn args(&self) -> Vec<String> {
        let work = self.work.to_possible_value().expect("no work is skipped");
        let mut args: Vec<String> = [
            "client",
            "--peer",
            &self.peer.word(),
            "--work",
            work.get_name(),
        ]
        .map(str::to_owned)
        .into();
        for (name, value) in [
            ("--callers", self.callers.to_string()),
            ("--count", self.count.to_string()),
            ("--threads", self.threads.to_string()),
        ] {
            args.extend([name.to_owned(), value]);
        }
        if let Some(collector) = &self.collector {
            args.extend(["--collector".to_owned(), collector.clone()]);
        }
        args.extend_from_slice(&self.addresses);
        args
    }

    /// Has it done in a process of its own.
    pub(crate) fn measure(&self) -> Result<Figures> {
        let output = Command::new(env::current_exe()?)
            .args(self.args())
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(
            output.status.success(),
            "the client over {} failed",
            self.peer.name()
        );
        serde_json::from_slice(&output.stdout).context("the client prints its figures")
    }
}

/// Does the work, and prints what it took.
pub(crate) fn run(job: &Job) -> Result<()> {
    let runtime = if job.threads == 1 {
        runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
    } else {
        runtime::Builder::new_multi_thread()
            .worker_threads(job.threads)
            .enable_all()
            .build()?
    };
    let plain = || balanced(&job.addresses, job.work.service_config());
    let figures = runtime.block_on(async {
        match job.peer {
            Peer::TonicOne => measure(tonic_one(&job.addresses).await?, job).await,
            Peer::TonicBalance => measure(tonic_balance(&job.addresses)?, job).await,
            Peer::Balance => measure(connected(plain()).await?, job).await,
            Peer::BalanceTraced | Peer::BalanceWatched => {
                let collector = job.collector.as_deref().context("no --collector")?;
                let watch = Watch::start(collector)?;
                let metrics = job.peer == Peer::BalanceWatched;
                measure(connected(watch.over(plain(), metrics)).await?, job).await
            }
            Peer::BalanceFull => measure(connected(full(&job.addresses)).await?, job).await,
            Peer::BalanceFullOne => measure(connected(full(&job.addresses[..1])).await?, job).await,
            Peer::BareH2 => measure(BareH2::connect(&job.addresses).await?, job).await,
            Peer::InMemory => measure(InMemory, job).await,
        }
    })?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

async fn measure(channel: impl Measured, job: &Job) -> Result<Figures> {
    // The first calls connect, and fill whatever is filled once.
    let few = job.callers * 4;
    job.work.run(&channel, job.callers, few).await?;
    let (before, started) = (cpu_time()?, Instant::now());
    let latencies = job.work.run(&channel, job.callers, job.count).await?;
    let (used, elapsed) = (
        cpu_time()?.saturating_sub(before).as_secs_f64(),
        started.elapsed().as_secs_f64(),
    );
    ensure!(
        elapsed * 2.0 * job.threads as f64 >= used,
        "more CPU time than time passed: the figures are wrong"
    );
    Ok(Figures {
        cpu: used,
        elapsed,
        latencies: [0.5, 0.99, 0.999].map(|share| latencies.value_at_quantile(share)),
    })
}
