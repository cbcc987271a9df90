//! Following a service in etcd, by the registry's client or a bare one, and saying so when told to.

use std::{collections::HashMap, io, thread, time::Duration};

use anyhow::{Context, Result};
use clap::ValueEnum;
use etcd_client::{Client, GetOptions, WatchOptions};
use registry::{ServiceName, Snapshot};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime,
    sync::{mpsc, watch},
};

use crate::process::{cpu_time, resident};

/// Who follows.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum By {
    Bare,
    Registry,
}

impl By {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare etcd client",
            Self::Registry => "the registry's client",
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Registry => "registry",
        }
    }
}

/// What is followed.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    #[arg(long, value_enum)]
    by: By,
    #[arg(long)]
    service: String,
    #[arg(long)]
    endpoint: String,
}

/// What a follower says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) memory: f64,
    pub(super) cpu: Duration,
    instances: usize,
}

/// How many instances are known, and up to which revision; nothing before the first list.
type Seen = Option<(usize, i64)>;

/// Follows, and answers each line with what it has, as soon as it has seen the revision that the line names.
pub(crate) fn watch(args: &WatchArgs) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (sight, mut seen) = watch::channel(None);
    let mut orders = orders();
    runtime.block_on(async {
        let follow = async {
            match args.by {
                By::Bare => bare(args, &sight).await,
                By::Registry => ours(args, &sight).await,
            }
        };
        let answer = async {
            while let Some(revision) = orders.recv().await {
                let known = |seen: &Seen| seen.is_some_and(|(_, known)| known >= revision);
                let instances = seen.wait_for(known).await?.map_or(0, |(count, _)| count);
                let figures = Figures {
                    memory: resident()?,
                    cpu: cpu_time()?,
                    instances,
                };
                println!("{}", serde_json::to_string(&figures)?);
            }
            anyhow::Ok(())
        };
        tokio::select! {
            ended = follow => ended,
            done = answer => done,
        }
    })
}

/// The revisions that lines on standard input name; ends with it.
fn orders() -> mpsc::Receiver<i64> {
    let (sender, orders) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let Ok(revision) = line.parse() else { return };
            if sender.blocking_send(revision).is_err() {
                return;
            }
        }
    });
    orders
}

/// What one has to write who has etcd-client and wants to know who is there.
async fn bare(args: &WatchArgs, sight: &watch::Sender<Seen>) -> Result<()> {
    let mut client = Client::connect([&args.endpoint], None).await?;
    let prefix = format!("{}/", args.service);
    let end = format!("{}0", args.service);
    let mut all = HashMap::new();
    let (mut from, mut revision) = (prefix.clone().into_bytes(), 0);
    loop {
        let options = GetOptions::new()
            .with_range(end.as_str())
            .with_limit(1_000)
            .with_revision(revision);
        let page = client.get(from.clone(), Some(options)).await?;
        if revision == 0 {
            revision = page.header().context("an answer has a header")?.revision();
        }
        for kv in page.kvs() {
            all.insert(kv.key().to_vec(), kv.value().to_vec());
        }
        match page.kvs().last() {
            Some(last) if page.more() => from = [last.key(), &[0]].concat(),
            _ => break,
        }
    }
    sight.send_replace(Some((all.len(), revision)));
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(revision + 1);
    let mut watch = client.watch(prefix, Some(options)).await?;
    while let Some(message) = watch.message().await? {
        for kv in message.events().iter().filter_map(|event| event.kv()) {
            revision = revision.max(kv.mod_revision());
            if kv.version() > 0 {
                all.insert(kv.key().to_vec(), kv.value().to_vec());
            } else {
                all.remove(kv.key());
            }
        }
        sight.send_replace(Some((all.len(), revision)));
    }
    Ok(())
}

/// Follows every change, and looks at what has changed, as a channel does.
async fn ours(args: &WatchArgs, sight: &watch::Sender<Seen>) -> Result<()> {
    let registry = registry::connect(&format!("etcd://{}", args.endpoint))?;
    let mut watch = registry.watch(&ServiceName::new(&args.service)?);
    let mut before = watch.first().await;
    loop {
        let revision = i64::try_from(before.revision().0)?;
        sight.send_replace(Some((before.len(), revision)));
        let Some(now) = watch.changed().await.snapshot else {
            continue;
        };
        std::hint::black_box(Snapshot::changes_since(&now, &before));
        before = now;
    }
}
