//! `chaos`: random faults on the running Compose stack, one after another, under load, and what came of them.

mod args;
mod docker;
mod guest;
mod interrupt;
mod load;
mod plan;
mod report;
mod stack;

use std::{fmt::Write as _, io::Write as _, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Parser as _;
use futures_util::future::try_join_all;
use serde_json::Value;
use tokio::{
    select,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    args::{Args, Output},
    docker::docker,
    guest::Guest,
    interrupt::Interrupt,
    load::{Caller, Load, remove},
    plan::{Plan, Step},
    report::{Called, Incident, RIGHT_WITHIN, Report},
    stack::{Stack, Victim},
};

/// What a shell reports of a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// How long all may take to be right at the start.
const READY: Duration = Duration::from_mins(1);
/// Longer than a lease of 10 s: whoever is not kept alive is gone by then.
const STAYS: Duration = Duration::from_secs(12);

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        print(&list(&args));
        return ExitCode::SUCCESS;
    }
    match run(&args).await {
        Ok(report) => {
            let text = match args.output {
                Output::Table => report.drawn(),
                Output::Json => format!("{}\n", report.to_json()),
            };
            print(&text);
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

/// The faults of a seed, a line each.
fn list(args: &Args) -> String {
    let (mut now, mut lines) = (Duration::ZERO, String::new());
    for step in Plan::of(args.seed.unwrap_or_default()) {
        now += step.calm;
        if now >= args.time() {
            break;
        }
        let (at, lasts) = (now.as_secs_f64(), step.lasts.as_secs_f64());
        let (whom, deed) = (step.whom, step.deed);
        let _ = writeln!(lines, "{at:>6.1} s  {whom} {deed} for {lasts:.1} s");
        now += step.lasts;
    }
    lines
}

/// Stdout may be closed: who listens no more has heard enough, and the exit code still tells.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

async fn run(args: &Args) -> Result<Report> {
    let mut interrupt = Interrupt::listen()?;
    let project = match &args.project {
        Some(project) => project.clone(),
        None => project_here().await?,
    };
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let stack = Stack::find(&project).await?;
    let process = std::process::id();
    let guest = Guest::named(format!("chaos-{process}"));
    let callers = callers(args, &format!("{project}-chaos-{process}"), &guest);
    let names = callers.each_ref().map(|caller| caller.name.clone());
    let starting = async {
        guest.come(stack.user_service()).await?;
        let mut loads = Vec::new();
        for caller in callers {
            loads.push(caller.start(&project).await?);
        }
        Ok(loads)
    };
    let begun = select! {
        loads = starting => loads,
        () = interrupt.comes() => Err(anyhow::anyhow!("interrupted before the first fault")),
    };
    let loads = match begun {
        Ok(loads) => loads,
        Err(error) => {
            // It may have got as far as that.
            let _ = remove(&names).await;
            let _ = guest.leave(stack.user_service()).await;
            return Err(error);
        }
    };
    eprintln!(
        "chaos: {} min in the Compose project {project}, seed {seed}",
        args.minutes
    );
    let mut chaos = Chaos {
        stack,
        loads,
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
    let took = chaos.start.elapsed();
    let mut called = Vec::new();
    for load in &chaos.loads {
        called.push(Called {
            service: load.caller.service,
            rate: load.caller.rate,
            figures: load.stop().await.map_err(|error| format!("{error:#}")),
        });
    }
    let removed = remove(&names).await;
    let left = guest.leave(chaos.stack.user_service()).await;
    let mut problem = [ran, ended, removed, left]
        .into_iter()
        .filter_map(Result::err);
    Ok(Report {
        seed,
        took,
        incidents: chaos.incidents,
        called,
        problem: problem.next().map(|error| format!("{error:#}")),
        interrupted,
    })
}

/// Who calls meanwhile.
fn callers(args: &Args, name: &str, guest: &Guest) -> [Caller; 2] {
    let caller = |service, rate, arguments: &[&str]| Caller {
        name: format!("{name}-{service}"),
        service,
        rate,
        arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
    };
    [
        caller("greeter", args.rate, &[]),
        caller("user", args.user_rate, &["--user", guest.id()]),
    ]
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
    loads: Vec<Load>,
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
        let ready = self.stack.right_again(&self.loads, READY).await;
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
        let failed_before = self.failed().await?;
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
        self.doing = Some(tokio::spawn(async { try_join_all(done).await.map(drop) }));
        self.done().await?;
        sleep(step.lasts).await;
        self.stack.mend(&self.victims).await?;
        self.victims.clear();
        let lasted = begun.elapsed();
        let right_again = self.stack.right_again(&self.loads, 2 * RIGHT_WITHIN).await;
        let failed = self.failed().await? - failed_before;
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

    /// How many calls have failed so far, of all callers.
    async fn failed(&self) -> Result<u64> {
        let failed = try_join_all(self.loads.iter().map(Load::failed)).await?;
        Ok(failed.into_iter().sum())
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
        self.stack.right_again(&self.loads, bound).await?;
        if in_haste {
            return Ok(());
        }
        sleep(STAYS).await;
        let took = self.stack.right_again(&self.loads, bound).await?;
        ensure!(took < STAYS, "all was right, and then wrong once more");
        Ok(())
    }
}
