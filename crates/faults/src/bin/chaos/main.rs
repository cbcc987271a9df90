//! `chaos`: random faults on the running Compose stack, one after another, under load, and what came of them.

mod docker;
mod load;
mod plan;
mod report;
mod stack;

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use serde_json::Value;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    docker::docker,
    load::Load,
    plan::{Plan, Step},
    report::{Incident, RIGHT_WITHIN, Report},
    stack::{Stack, Victim},
};

/// What a shell reports of a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// How long all may take to be right at the start.
const READY: Duration = Duration::from_mins(1);
/// Longer than a lease of 10 s: whoever is not kept alive is gone by then.
const STAYS: Duration = Duration::from_secs(12);

/// Does harm to the running Compose stack, by chance, and says what came of it.
///
/// Greeters, user services and members of etcd are killed, stopped, paused and cut off from the network, one at a time, and now and
/// then all of etcd is down for longer than the leases last. Meanwhile calls are made, nine tenths of the rate that is asked for at least,
/// and none may fail. It ends by itself, and leaves all as it found it; so it does on Ctrl-C. The exit code is 0 only when everything held.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  just chaos                  one minute of it, on the stack that `just up` has started
  just chaos 5                five minutes
  just chaos 5 --seed 42      the same faults as another run with this seed
  just chaos 1 --output json  the report for a program"
)]
struct Args {
    /// For how many minutes faults begin; the last one is still seen to its end
    #[arg(value_name = "MINUTES", default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// What the faults are drawn from; by chance when it is not given, and printed
    #[arg(long)]
    seed: Option<u64>,
    /// Prints the faults of a seed and ends: as many as begin in that time, were all right again at once
    #[arg(long, requires = "seed")]
    list: bool,
    /// How many calls a second to make
    #[arg(long, value_name = "CALLS", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// What to print at the end: a table, or one JSON object
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// The Compose project; without it the one of this directory
    #[arg(long, value_name = "NAME", env = "COMPOSE_PROJECT_NAME")]
    project: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    Table,
    Json,
}

impl Args {
    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if minutes > 0.0 && minutes <= 1_440.0 => Ok(minutes),
        _ => Err("a number of minutes above 0 is expected, a day at most".into()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        list(&args);
        return ExitCode::SUCCESS;
    }
    match run(&args).await {
        Ok(report) => {
            let text = match args.output {
                Output::Table => report.drawn(),
                Output::Json => format!("{}\n", report.to_json()),
            };
            // Stdout may be closed; the exit code still tells.
            let _ = std::io::stdout().write_all(text.as_bytes());
            match (report.interrupted, report.held()) {
                (true, _) => ExitCode::from(INTERRUPTED),
                (false, true) => ExitCode::SUCCESS,
                (false, false) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list(args: &Args) {
    let mut now = Duration::ZERO;
    for step in Plan::of(args.seed.unwrap_or_default()) {
        now += step.calm;
        if now >= args.time() {
            break;
        }
        let (at, lasts) = (now.as_secs_f64(), step.lasts.as_secs_f64());
        println!("{at:>6.1} s  {} {} for {lasts:.1} s", step.whom, step.deed);
        now += step.lasts;
    }
}

async fn run(args: &Args) -> Result<Report> {
    let mut interrupt = Interrupt::listen()?;
    let project = match &args.project {
        Some(project) => project.clone(),
        None => project_here().await?,
    };
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let stack = Stack::find(&project).await?;
    let name = format!("{project}-chaos-{}", std::process::id());
    let begun = select! {
        load = Load::start(&project, &name, args.rate) => load,
        () = interrupt.comes() => Err(anyhow::anyhow!("interrupted before the first fault")),
    };
    let load = match begun {
        Ok(load) => load,
        Err(error) => {
            // It may have got as far as that.
            let _ = docker(&["rm", "--force", &name]).await;
            return Err(error);
        }
    };
    eprintln!(
        "chaos: {} min in the Compose project {project}, seed {seed}",
        args.minutes
    );
    let mut chaos = Chaos {
        stack,
        load,
        start: Instant::now(),
        incidents: Vec::new(),
        victims: Vec::new(),
        doing: None,
    };
    let (ran, interrupted) = select! {
        ran = chaos.rage(Plan::of(seed), args.time()) => (ran, false),
        () = interrupt.comes() => (Ok(()), true),
    };
    if interrupted {
        eprintln!("interrupted: mending what is broken; a second time ends it at once");
    }
    let ended = select! {
        ended = chaos.settle(interrupted) => ended,
        () = interrupt.comes() => Err(anyhow::anyhow!("interrupted a second time: the stack is left as it is; `just up` mends it")),
    };
    let figures = chaos.load.stop().await;
    chaos.load.remove().await?;
    let problem = [
        ran.err(),
        ended.err(),
        figures
            .as_ref()
            .err()
            .map(|error| anyhow::anyhow!("{error:#}")),
    ];
    let mut problem = problem.into_iter().flatten();
    Ok(Report {
        seed,
        rate: args.rate,
        took: chaos.start.elapsed(),
        incidents: chaos.incidents,
        figures: figures.ok(),
        problem: problem.next().map(|error| format!("{error:#}")),
        interrupted,
    })
}

/// The name of the Compose project of this directory.
async fn project_here() -> Result<String> {
    let config = docker(&["compose", "config", "--format", "json"]).await?;
    let config: Value = serde_json::from_str(&config).context("docker compose gives no JSON")?;
    let name = config["name"]
        .as_str()
        .context("the Compose project has no name")?;
    Ok(name.to_owned())
}

/// A run, and what is broken in it now.
struct Chaos {
    stack: Stack,
    load: Load,
    start: Instant,
    incidents: Vec<Incident>,
    /// Known before anything is done to them, so that all of it can be undone wherever this is broken off.
    victims: Vec<Victim>,
    /// What is being done to them: Docker goes on with that whoever waits for it, so that it is mended only after.
    doing: Option<JoinHandle<Result<()>>>,
}

impl Chaos {
    /// One fault after another, each seen to its end, until the time is over. Broken off, it leaves its victims to be mended.
    async fn rage(&mut self, plan: Plan, until: Duration) -> Result<()> {
        let ready = self.stack.right_again(&self.load, READY).await;
        ready.context("the stack is not right to begin with")?;
        self.start = Instant::now();
        for step in plan {
            if self.start.elapsed() + step.calm >= until {
                break;
            }
            sleep(step.calm).await;
            self.bring_about(&step).await?;
        }
        Ok(())
    }

    /// Brings a fault about, ends it, and waits until all is right; a stack that never is ends the run.
    async fn bring_about(&mut self, step: &Step) -> Result<()> {
        let containers = self.stack.victims(step);
        let names: Vec<_> = containers.iter().map(|one| one.name.as_str()).collect();
        let what = format!("{} {}", names.join(", "), step.deed);
        for container in containers.clone() {
            self.victims.push(Victim::of(container, step.deed).await?);
        }
        let failed_before = self.load.failed().await?;
        let at = self.start.elapsed();
        eprint!(
            "{:>6.1} s  {what} for {:.1} s: ",
            at.as_secs_f64(),
            step.lasts.as_secs_f64()
        );
        let begun = Instant::now();
        let deed = step.deed;
        let done = containers
            .into_iter()
            .map(move |one| async move { one.suffer(deed).await });
        self.doing = Some(tokio::spawn(async {
            futures_util::future::try_join_all(done).await.map(drop)
        }));
        self.done().await?;
        sleep(step.lasts).await;
        self.stack.mend(&self.victims).await?;
        self.victims.clear();
        let lasted = begun.elapsed();
        let right_again = self.stack.right_again(&self.load, 2 * RIGHT_WITHIN).await;
        let failed = self.load.failed().await? - failed_before;
        match &right_again {
            Ok(took) => eprintln!(
                "right again after {:.1} s, {failed} calls failed",
                took.as_secs_f64()
            ),
            Err(error) => eprintln!("{error:#}"),
        }
        let broken = right_again.is_err();
        self.incidents.push(Incident {
            at,
            what,
            lasted,
            right_again: right_again.map_err(|error| format!("{error:#}")),
            failed,
        });
        ensure!(!broken, "the stack was not right again after a fault");
        Ok(())
    }

    /// Waits until nothing is being done to anybody. Cancellation safe.
    async fn done(&mut self) -> Result<()> {
        let Some(doing) = &mut self.doing else {
            return Ok(());
        };
        let done = doing.await;
        self.doing = None;
        done?
    }

    /// Mends what is broken, and waits until all is right; unless somebody waits for the end, also until leases would have ended
    /// that nobody keeps.
    async fn settle(&mut self, in_haste: bool) -> Result<()> {
        // What could not be done is no reason to leave the rest as it is.
        let _ = self.done().await;
        self.stack.mend(&self.victims).await?;
        self.victims.clear();
        let bound = 2 * RIGHT_WITHIN;
        self.stack.right_again(&self.load, bound).await?;
        if in_haste {
            return Ok(());
        }
        sleep(STAYS).await;
        let took = self.stack.right_again(&self.load, bound).await?;
        ensure!(took < STAYS, "all was right, and then wrong once more");
        Ok(())
    }
}

/// Ctrl-C and SIGTERM.
struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Resolves when one of them comes. Cancellation safe.
    async fn comes(&mut self) {
        select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
