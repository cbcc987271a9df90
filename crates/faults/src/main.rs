//! The fault suite: each fault brought about on real etcd members, real greeters and a caller that makes a thousand calls
//! a second, and what came of it. Exits with 0 when everything that must hold has held.

mod caller;
mod faults;
mod outcome;
mod scene;
mod thousands;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    faults::{FAULTS, Fault},
    outcome::{Outcome, table},
    scene::Pace,
};

/// What a shell reports of a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Brings about every fault that the registry has to survive, and says what came of it.
///
/// For each fault there are three etcd members, three greeters whose leases last five seconds, and a caller that makes
/// 1,000 calls a second and tries each up to three times, as gRPC's retry policy has it. All of it runs on this machine
/// and ends with this program. The exit code is 0 only when everything held.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  faults                      all of them, one after another: about ten minutes
  faults --short              all of them in a shorter form
  faults leader-killed        one of them
  faults --list               their names, and what must hold"
)]
struct Args {
    /// The faults to bring about; all of them when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Lasts as long as it takes to see the fault, and not three times the lease; calls and what follows may take longer, for a busy machine
    #[arg(long)]
    short: bool,
    /// Lists the faults and ends
    #[arg(long)]
    list: bool,
    /// What to print at the end: a table, or one JSON object a line
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Follows a hundred services; started by a fault, not by hand
    #[arg(long, hide = true, value_name = "URL")]
    follow: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // Whatever has been started is owned by the future that loses, and ends with it.
    let ran = tokio::select! {
        ran = run(args) => ran,
        interrupted = interrupted() => interrupted,
    };
    ran.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(url) = &args.follow {
        thousands::follow(url).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&args.names)?;
    if args.list {
        for fault in chosen {
            println!("{:<22} {}: {}", fault.name, fault.what, fault.must_hold);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let pace = Pace { short: args.short };
    let mut outcomes = Vec::new();
    for (number, fault) in chosen.iter().enumerate() {
        eprintln!(
            "{}/{} {}: {}",
            number + 1,
            chosen.len(),
            fault.name,
            fault.what
        );
        let outcome = Outcome::at(pace, fault, (fault.bring_about)(pace).await);
        eprintln!("    {}", outcome.in_words());
        if args.output == Output::Json {
            println!("{}", outcome.to_json());
        }
        outcomes.push(outcome);
    }
    let held = outcomes.iter().filter(|outcome| outcome.held()).count();
    if args.output == Output::Table {
        println!("{}", table(&outcomes, io::stdout().is_terminal()));
        println!("{held} of {} held", outcomes.len());
    }
    Ok(ExitCode::from(u8::from(held < outcomes.len())))
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Fault>> {
    for name in names {
        let known: Vec<_> = FAULTS.iter().map(|fault| fault.name).collect();
        ensure!(
            known.contains(&name.as_str()),
            "there is no fault {name:?}; there are {}",
            known.join(", ")
        );
    }
    let is_chosen =
        |fault: &&Fault| names.is_empty() || names.iter().any(|name| name == fault.name);
    Ok(FAULTS.iter().filter(is_chosen).collect())
}

async fn interrupted() -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    eprintln!("interrupted: ending what was started");
    Ok(ExitCode::from(INTERRUPTED))
}
