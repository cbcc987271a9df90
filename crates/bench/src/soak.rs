//! Does anything stay behind, when a channel is used hard for long?

mod callers;
mod flapping;

use std::{
    fs,
    io::{self, IsTerminal as _},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use balance::Channel;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use crate::{
    peers::SERVICE_CONFIG,
    process::resident,
    table::{Table, grouped},
};
use callers::{Callers, Counts};
use flapping::Flapping;

/// What may stay: an allocator gives little back, and not at once.
const MORE_MEMORY: f64 = 1.1;
const MORE_BYTES: f64 = 8.0 * 1024.0 * 1024.0;
/// For so much of the time before, the same is done: what an allocator keeps for the next burst is nothing that stays behind.
const WARM_UP: u32 = 10;
/// How long a channel has to come to rest.
const REST: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For how long, in seconds
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(10..=86_400))]
    seconds: u64,
    /// Calls under way at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    callers: u32,
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    memory: f64,
    tasks: usize,
    sockets: usize,
    calls: usize,
}

impl Held {
    fn now(channel: &Channel) -> Result<Self> {
        Ok(Self {
            memory: resident()?,
            tasks: Handle::current().metrics().num_alive_tasks(),
            sockets: sockets()?,
            calls: channel.explain().calls_in_flight,
        })
    }

    /// What is more than it was `before`, in words.
    fn excess(&self, before: &Self) -> Vec<String> {
        let counts = [
            ("tasks", self.tasks, before.tasks),
            ("sockets", self.sockets, before.sockets),
            ("calls in flight", self.calls, 0),
        ];
        let more = counts.into_iter().filter(|(_, now, before)| now > before);
        let mut excess: Vec<_> = more
            .map(|(what, now, before)| format!("{now} {what}, and it were {before}"))
            .collect();
        if self.memory > before.memory * MORE_MEMORY + MORE_BYTES {
            let [now, before] = [self.memory, before.memory].map(grouped);
            excess.push(format!("{now} bytes of memory, and it were {before}"));
        }
        excess
    }
}

/// The sockets that this process has open.
fn sockets() -> Result<usize> {
    let open = fs::read_dir("/proc/self/fd").context("cannot see the open files")?;
    let is_socket = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    Ok(open.flatten().filter(is_socket).count())
}

/// Uses a channel hard, and fails when anything stays behind.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(soak(args))
}

async fn soak(args: &Args) -> Result<()> {
    let mut flapping = Flapping::start().await?;
    let channel = Channel::builder("greeter")
        .registry(flapping.registry())
        .descriptors(proto::DESCRIPTORS)
        .service_config(SERVICE_CONFIG)
        .build()?;
    let time = Duration::from_secs(args.seconds);
    use_hard(&channel, &mut flapping, args.callers, time / WARM_UP).await?;
    let before = at_rest(&channel, &flapping, None).await?;
    let turns = flapping.turns();
    let counts = use_hard(&channel, &mut flapping, args.callers, time).await?;
    let turns = flapping.turns() - turns;
    let after = at_rest(&channel, &flapping, Some(&before)).await?;
    println!(
        "{} callers for {} s, {} of {} servers gone and as many come each second\n",
        args.callers,
        args.seconds,
        flapping::GROUP,
        flapping::GROUP * flapping::GROUPS
    );
    println!("{counts}");
    let mut table = Table::new(["held", "before", "after"]);
    let rows = [
        ("bytes of resident memory", before.memory, after.memory),
        ("tasks", before.tasks as f64, after.tasks as f64),
        ("sockets", before.sockets as f64, after.sockets as f64),
        ("calls in flight", before.calls as f64, after.calls as f64),
    ];
    for (what, before, after) in rows {
        table.row([what.to_owned(), grouped(before), grouped(after)]);
    }
    print!("{table}");
    let excess = after.excess(&before);
    if !excess.is_empty() {
        bail!("something stays behind: {}", excess.join("; "));
    }
    counts.verdict(turns)
}

/// Calls of all kinds for so long, while servers come and go each second.
async fn use_hard(
    channel: &Channel,
    flapping: &mut Flapping,
    callers: u32,
    time: Duration,
) -> Result<Arc<Counts>> {
    let callers = Callers::start(channel, callers);
    let end = Instant::now() + time;
    let watched = io::stderr().is_terminal();
    while Instant::now() < end {
        sleep(Duration::from_secs(1)).await;
        flapping.flap().await?;
        if watched {
            let left = end.saturating_duration_since(Instant::now()).as_secs();
            eprint!("\r{left} s to go, {} calls made ", callers.made());
        }
    }
    if watched {
        eprint!("\r\x1b[K");
    }
    callers.stop().await
}

/// Waits until all endpoints are connected and nothing is more than it was `before`, or for long enough; tells what is held.
async fn at_rest(channel: &Channel, flapping: &Flapping, before: Option<&Held>) -> Result<Held> {
    let end = Instant::now() + REST;
    loop {
        sleep(Duration::from_millis(100)).await;
        let held = Held::now(channel)?;
        let ready = channel.explain().endpoints;
        let ready = ready.iter().filter(|e| e.state == "READY").count();
        let is_quiet = ready == flapping.servers() && held.calls == 0;
        if is_quiet && before.is_none_or(|before| held.excess(before).is_empty()) {
            return Ok(held);
        }
        if Instant::now() >= end {
            return Ok(held);
        }
    }
}
